"""Given timers that are due, when replicas claim them, then each runs once, in order, and none is lost to a failure."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from shared.database import Connection, Database, open_database
from shared.member_locks import claim_members, lock_members
from shared.migrating import migrate
from shared.outcomes import Outcomes, Timer
from shared.service import Service
from shared.subscriptions import TimerSubscription
from shared.suspect_timers import CLAIM_MAX, FAILURES_MAX, Caution
from shared.timers import (
    TimersRun,
    cancel_member_timers,
    cancel_timers,
    count_due,
    replacing_timers,
    run_timers,
    save_timers,
)
from shared.writing import write
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunService
from tests.shared.delivery.timing import (
    CAUSE,
    NOW,
    Journal,
    Misdeed,
    draft_what_is_no_event,
    draft_what_is_too_large,
    nothing_waits,
    open_no_file,
    raise_bug,
    rows_of,
    run,
    run_claim,
    save,
    timer,
)


@pytest.fixture
async def database_url(database: DatabaseFactory) -> str:
    url = await database(None)
    await migrate(url, service="probe")
    return url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(database_url, connections=3, application="test")
    yield opened
    await opened.close()


async def test_due_timers_run_once_oldest_first_and_later_ones_stay(pool: Database) -> None:
    one, two = uuid4(), uuid4()
    await save(pool, timer(one, "b", due_in_s=-5), timer(two, "a", due_in_s=-9), timer(one, "later", due_in_s=60))
    journal = Journal()
    async with pool.acquire() as connection:
        for _ in range(2):
            async with connection.transaction():
                await run(connection, journal)
        assert journal.ran == ["a", "b"]
        async with connection.transaction():
            assert await run(connection, journal, NOW + timedelta(minutes=2)) == 1
    assert journal.ran == ["a", "b", "later"]


async def test_saving_again_moves_and_cancelling_removes(pool: Database) -> None:
    member, journal = uuid4(), Journal()
    await save(pool, timer(member, "moved"), timer(member, "cancelled"), timer(member, "kept"))
    again = replace(timer(member, "moved", due_in_s=600, step=2), cause=CAUSE._replace(id="again"))
    await save(pool, again)
    async with pool.acquire() as connection, connection.transaction():
        await cancel_timers(connection, kind="probe", keys=["cancelled", "never there"])
        assert await count_due(connection, kinds=["probe"], now=NOW) == 1
        await run(connection, journal)
        await run(connection, journal, again.due_at)
        await save_timers(connection, [timer(member, "left")])
        await cancel_member_timers(connection, kinds=["probe"], member_ids=[member])
        assert await connection.fetchval("select count(*) from delivery.timers") == 0
    assert journal.ran == ["kept", "moved"]
    assert journal.timers[-1] == again, "all of it is as it was saved last"


async def test_what_is_cancelled_or_replaced_is_of_the_kinds_that_are_named(pool: Database) -> None:
    """Whatever else there is of the same member, or under the same key, has not become moot."""
    member, others = uuid4(), {"other a", "other b"}
    ours = [timer(member, key) for key in "ab"]

    async def keys_left() -> set[str]:
        rows = await pool.fetch("select kind, key from delivery.timers where member_id = $1", member)
        return {f"{row['kind']} {row['key']}" for row in rows}

    await save(pool, *ours, *(replace(one, kind="other") for one in ours))
    async with pool.acquire() as connection:
        await write(connection, replacing_timers(kinds=["probe"], keys=["a", "b"], timers=ours[:1]))
        assert await keys_left() == {"probe a", *others}
        await cancel_member_timers(connection, kinds=["probe"], member_ids=[member])
    assert await keys_left() == others


async def test_a_member_held_by_somebody_else_is_skipped_not_waited_for(pool: Database) -> None:
    held, free, journal = uuid4(), uuid4(), Journal()
    await save(pool, timer(held, "held"), timer(free, "free"))
    async with pool.acquire() as other, other.transaction(), pool.acquire() as connection, connection.transaction():
        await lock_members(other, [held])
        await run(connection, journal)
    assert journal.ran == ["free"]
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["free", "held"]


async def test_a_timer_that_raises_holds_up_no_other_and_is_tried_again_later(pool: Database) -> None:
    members, journal = [uuid4() for _ in range(3)], Journal()
    journal.misdeeds = {"bad": raise_bug}
    await save(pool, *(timer(member, key) for member, key in zip(members, ("x", "bad", "y"), strict=True)))
    async with pool.acquire() as connection:
        async with connection.transaction():
            await run(connection, journal)
        assert sorted(journal.ran) == ["x", "y"]
        async with connection.transaction():
            assert await run(connection, journal) == 0, "not before its pause is over"
        for _ in range(FAILURES_MAX):
            await connection.execute("update delivery.timers set retry_at = null")
            async with connection.transaction():
                await run(connection, journal)
        row = await connection.fetchrow("select failures from delivery.timers where key = 'bad'")
        assert row
        assert row["failures"] == FAILURES_MAX, "it stays, for somebody to look at"
        assert await count_due(connection, kinds=["probe"], now=NOW) == 0


async def test_a_timer_that_failed_is_tried_again_by_the_time_of_the_machine(pool: Database) -> None:
    """Whatever the time is in the clinic: a rehearsal may be months behind or ahead."""
    journal = Journal()
    await save(pool, timer(uuid4(), "a"))
    journal.misdeeds["a"] = raise_bug
    async with pool.acquire() as connection:
        await run(connection, journal)
        journal.misdeeds.clear()
        await run(connection, journal, NOW + timedelta(days=3_650))
        assert journal.ran == [], "its pause is not over"
        await pool.execute("update delivery.timers set retry_at = clock_timestamp()")
        await run(connection, journal)
    assert journal.ran == ["a"]


async def test_a_timer_that_was_given_up_runs_once_it_is_set_anew(pool: Database) -> None:
    """Whoever sets it wants it to run: what it failed at before is forgotten."""
    member, journal = uuid4(), Journal()
    await save(pool, timer(member, "a"))
    await pool.execute("update delivery.timers set failures = $1, retry_at = 'infinity'", FAILURES_MAX)
    async with pool.acquire() as connection:
        assert await run(connection, journal) == 0
        await save(pool, timer(member, "a", due_in_s=-1))
        assert await run(connection, journal) == 1
    assert journal.ran == ["a"]


async def test_what_is_to_be_left_alone_does_not_run_beside_another_timer_of_its_member(pool: Database) -> None:
    member, journal = uuid4(), Journal()
    await save(pool, *(timer(member, key, due_in_s=-9) for key in ("given up", "pausing")), timer(member, "due"))
    await pool.execute("update delivery.timers set failures = $1 where key = 'given up'", FAILURES_MAX)
    await pool.execute("update delivery.timers set failures = 1, retry_at = 'infinity' where key = 'pausing'")
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["due"]


async def test_a_rolled_back_claim_leaves_the_timer(pool: Database) -> None:
    member, journal = uuid4(), Journal()
    await save(pool, timer(member, "again"))

    async def run_and_fail() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await run(connection, journal)
            await connection.execute("select 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await run_and_fail()
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["again", "again"]


async def test_a_timer_of_a_member_whom_nobody_ever_locked_runs(pool: Database) -> None:
    members, journal = [uuid4() for _ in range(3)], Journal()
    async with pool.acquire() as connection:
        # As a safety group does, which takes no lock.
        await save_timers(connection, [timer(member, f"t{place}") for place, member in enumerate(members)])
        await connection.execute("insert into delivery.member_locks values ($1)", members[1])
        async with connection.transaction():
            assert await run(connection, journal) == 3
            assert await connection.fetchval("show lock_timeout") == "10s", "as before"
        assert await connection.fetchval("select count(*) from delivery.member_locks") == 3


async def test_a_member_whom_somebody_is_just_adding_is_skipped_not_waited_for(pool: Database) -> None:
    added, known, journal = uuid4(), uuid4(), Journal()
    async with pool.acquire() as other, pool.acquire() as connection:
        await save_timers(connection, [timer(added, "added"), timer(known, "known")])
        await connection.execute("insert into delivery.member_locks values ($1)", known)
        async with other.transaction():
            await lock_members(other, [added])
            async with connection.transaction():
                await run(connection, journal)
                assert journal.ran == ["known"]
                assert await connection.fetchval("show lock_timeout") == "10s", "as before"
        async with connection.transaction():
            await run(connection, journal)
    assert journal.ran == ["known", "added"]


async def test_no_more_members_are_claimed_than_asked_for_and_the_first_ones_first(pool: Database) -> None:
    members = [uuid4() for _ in range(6)]
    await pool.executemany("insert into delivery.member_locks values ($1)", [(one,) for one in members[1:]])
    async with pool.acquire() as other, other.transaction(), pool.acquire() as connection, connection.transaction():
        await lock_members(other, members[1:2])
        assert await claim_members(connection, members[1:], limit=2) == {*members[2:4]}
        assert await claim_members(connection, members, limit=5) == {members[0], *members[2:]}


@pytest.mark.parametrize(
    "misdeed", [draft_what_is_no_event, draft_what_is_too_large, open_no_file, raise_bug], ids=lambda one: one.__name__
)
async def test_whatever_one_timer_does_wrong_it_fails_alone(pool: Database, misdeed: Misdeed) -> None:
    journal = Journal()
    journal.misdeeds = {"t3": misdeed}
    members = [uuid4() for _ in range(6)]
    await save(pool, *(timer(member, f"t{place}", due_in_s=place - 9) for place, member in enumerate(members)))
    async with pool.acquire() as connection, connection.transaction():
        result = await run_claim(connection, journal, Caution())
    assert (result.run, result.published, len(result.bugs)) == (6, 5, 1)
    assert await rows_of(pool) == {"t3": 1}
    told = [row["member_id"] for row in await pool.fetch("select member_id from delivery.outbox order by outbox_id")]
    assert told == [*members[:3], *members[4:]], "in the order in which they were due all the same"
    assert await pool.fetchval("select retry_at > clock_timestamp() from delivery.timers")


def told_of_given_up(service: str) -> float | None:
    return REGISTRY.get_sample_value("careloop_timers_given_up", {"service": service})


async def test_a_timer_that_was_given_up_shows(
    run_service: RunService, pool: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.housekeeping.HELD_EVERY_S", 0.1)
    journal = Journal()
    journal.misdeeds = {"bad": raise_bug}
    await save(pool, timer(uuid4(), "bad"), timer(uuid4(), "good"))

    def build(settings: Any) -> Service:
        return Service(name="probe", settings=settings, timers=[TimerSubscription(kind="probe", run=journal)])

    async def it_failed() -> bool:
        return await rows_of(pool) == {"bad": 1}

    async with run_service(build, name="probe", database_url=database_url) as running:
        await eventually(it_failed)
        assert (await running.client.get("/health/progress")).json()["given_up_timers"] == 0
        await pool.execute("update delivery.timers set failures = $1, retry_at = null", FAILURES_MAX - 1)

        async def it_was_given_up() -> bool:
            return await rows_of(pool) == {"bad": FAILURES_MAX}

        await eventually(it_was_given_up)
        answer = (await running.client.get("/health/progress")).json()
        assert (answer["due_timers"], answer["given_up_timers"]) == (0, 1)
        await eventually(lambda: told_of_given_up("probe") == 1)


Moots = Callable[[Connection, Timer], Awaitable[object]]


async def cancel_it(connection: Connection, other: Timer) -> None:
    await cancel_timers(connection, kind=other.kind, keys=[other.key])


async def move_it(connection: Connection, other: Timer) -> None:
    await save_timers(connection, [replace(other, due_at=NOW + timedelta(hours=1))])


@dataclass
class Mooting:
    """A handler one of whose timers makes another of its batch moot, before or after that one has its turn."""

    moots: Moots
    other: Timer
    raises: bool = False
    """Where the other one is given to it."""
    ran: list[str] = field(default_factory=list)

    async def __call__(self, connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
        given = [one.key for one in timers]
        if "mooting" in given:
            await self.moots(connection, self.other)
        if self.raises and self.other.key in given:
            raise ValueError
        self.ran += given
        return Outcomes()


async def run_both(pool: Database, handler: Mooting, *timers: Timer) -> TimersRun:
    await save(pool, *timers)
    async with pool.acquire() as connection, connection.transaction():
        return await run_timers(
            connection,
            {"first": handler, "second": handler},
            service="probe",
            now=NOW,
            settle_waiting=nothing_waits,
            caution=Caution(),
        )


async def left(pool: Database) -> list[tuple[str, datetime, int]]:
    rows = await pool.fetch("select key, due_at, failures from delivery.timers order by key")
    return [(row["key"], row["due_at"], row["failures"]) for row in rows]


@pytest.mark.parametrize("kinds", ["first second", "second first", "first first"])
@pytest.mark.parametrize("moots", [cancel_it, move_it])
async def test_a_timer_that_failed_is_not_put_back_where_another_of_its_batch_made_it_moot(
    pool: Database, kinds: str, moots: Moots
) -> None:
    """Whichever of them has its turn first."""
    mooting, failing = (
        timer(uuid4(), key, kind=kind, due_in_s=-2 if kind == "first" else -1)
        for key, kind in zip(("mooting", "failing"), kinds.split(), strict=True)
    )
    await run_both(pool, Mooting(moots, failing, raises=True), mooting, failing)
    assert await left(pool) == ([] if moots is cancel_it else [("failing", NOW + timedelta(hours=1), 0)])


@pytest.mark.parametrize("moots", [cancel_it, move_it])
async def test_a_timer_that_one_of_an_earlier_kind_made_moot_does_not_run(pool: Database, moots: Moots) -> None:
    mooting, moot = timer(uuid4(), "mooting", kind="first", due_in_s=-2), timer(uuid4(), "moot", kind="second")
    still = timer(uuid4(), "still", kind="second")
    handler = Mooting(moots, moot)
    await run_both(pool, handler, mooting, moot, still)
    assert handler.ran == ["mooting", "still"]
    assert await left(pool) == ([] if moots is cancel_it else [("moot", NOW + timedelta(hours=1), 0)])


async def test_a_timer_that_makes_itself_or_one_that_ran_due_again_is_due_again(pool: Database) -> None:
    """Set anew while it runs, or after it ran, at the same time as before: that is another timer, and it stays."""

    async def set_anew(connection: Connection, other: Timer) -> None:
        await save_timers(connection, [other])

    again = timer(uuid4(), "mooting", kind="first")
    await run_both(pool, Mooting(set_anew, again), again)
    assert await left(pool) == [("mooting", again.due_at, 0)]
    earlier = timer(uuid4(), "earlier", kind="second", due_in_s=-9)
    await run_both(pool, Mooting(set_anew, earlier), again, earlier)
    assert await left(pool) == [("earlier", earlier.due_at, 0)]


async def test_what_a_failed_half_did_to_another_timer_is_undone(pool: Database) -> None:
    """Its handler raises after it cancelled one: both stay."""
    mooting, other = timer(uuid4(), "mooting", kind="first"), timer(uuid4(), "other", kind="second", due_in_s=5)

    async def raise_after(connection: Connection, other: Timer) -> None:
        await cancel_it(connection, other)
        raise ValueError

    await run_both(pool, Mooting(raise_after, other), mooting, other)
    assert await left(pool) == [("mooting", mooting.due_at, 1), ("other", other.due_at, 0)]


@pytest.mark.parametrize("left", [f"failures = {FAILURES_MAX}", "failures = 1, retry_at = 'infinity'"])
async def test_timers_that_are_left_alone_leave_room_for_those_that_are_to_run(pool: Database, left: str) -> None:
    """Those that were given up or are to be tried again later are due longest, and more than one look can hold."""
    journal = Journal()
    await save(pool, *(timer(uuid4(), f"failed{n}", due_in_s=-60) for n in range(CLAIM_MAX)), timer(uuid4(), "due"))
    await pool.execute(f"update delivery.timers set {left} where key <> 'due'")
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["due"]
