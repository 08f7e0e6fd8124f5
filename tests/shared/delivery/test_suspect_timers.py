"""A failure that ends a whole transaction tells nobody which timer it came of: that one is found, is tried apart from
the others and not too often, and holds up none of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import suspect_timers as runtime
from shared.database import Connection, Database, is_transient
from shared.dying import Attempts
from shared.housekeeping import FORGET_TIMERS_ATTEMPTS
from shared.member_locks import claim_members, lock_members
from shared.outcomes import Outcomes, Timer
from shared.positions import ATTEMPTS_MAX
from shared.suspect_timers import FAILURES_MAX, PAUSE_MAX_S, Caution
from shared.timers import TimersRun
from tests.shared.delivery.books import Books
from tests.shared.delivery.timing import NOW, Journal, Misdeed, rows_of, run_claim, save, timer


@pytest.fixture
def pool(books: Books) -> Database:
    return books.pool


STATEMENT_S = 0.02


async def take_too_long(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    await connection.execute(f"set local statement_timeout = '{STATEMENT_S * 1000:.0f}ms'")
    await connection.execute("select pg_sleep(1)")


async def be_cancelled(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    """By an operator."""
    await connection.execute("select pg_cancel_backend(pg_backend_pid()), pg_sleep(1)")


async def time_out(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    raise TimeoutError


async def hang(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    await asyncio.Event().wait()


async def lose_the_connection(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    await connection.execute("select pg_terminate_backend(pg_backend_pid())")


async def run_on(
    pool: Database, journal: Journal, caution: Caution, until: Callable[[], Awaitable[object]], *, rounds: int = 99
) -> TimersRun:
    """As a service does: transaction after transaction, whatever the world does to them. What the last one did."""
    for _ in range(rounds):
        result = TimersRun()
        try:
            async with pool.acquire() as connection, connection.transaction():
                result = await run_claim(connection, journal, caution)
        except Exception as error:
            if not is_transient(error):
                raise
        if await until():
            return result
    raise AssertionError(f"not within {rounds} rounds; began {journal.began}")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PAUSE_MAX_S", 0.0)


@pytest.mark.parametrize("misdeed", [take_too_long, time_out, hang], ids=lambda one: one.__name__)
async def test_a_timer_that_always_takes_too_long_is_found_and_counted_while_the_others_run(
    pool: Database, no_pauses: None, monkeypatch: pytest.MonkeyPatch, misdeed: Misdeed
) -> None:
    monkeypatch.setattr("shared.timers.HANGS_S", 0.2)
    monkeypatch.setattr("shared.database.LONG_S", STATEMENT_S)
    journal, caution = Journal(), Caution()
    journal.misdeeds = {"slow": misdeed}
    await save(pool, timer(uuid4(), "slow"), *(timer(uuid4(), f"t{place}") for place in range(12)))

    async def it_was_counted() -> bool:
        left = await rows_of(pool)
        if set(left) == {"slow"}:
            await save(pool, timer(uuid4(), f"later{len(journal.ran)}"))
        return left["slow"] == 1

    counted = await run_on(pool, journal, caution, it_was_counted)
    assert [len(batch) for batch in journal.began[:4]] == [13, 6, 3, 1], "it is due first, so it is always among them"
    alone = [place for place, batch in enumerate(journal.began) if batch == ["slow"]]
    assert len(alone) == FAILURES_MAX
    assert all(later - earlier == 2 for earlier, later in pairwise(alone)), "the others have every other turn"
    assert len(counted.bugs) == 1
    assert counted.bugs[0].endswith(f"alone {FAILURES_MAX} times")

    del journal.misdeeds["slow"]
    await pool.execute("update delivery.timers set retry_at = null where key = 'slow'")
    caution.suspects["probe", "slow"].not_before = 0
    await run_on(pool, journal, caution, nothing_is_left(pool))
    assert not caution.suspects


def nothing_is_left(pool: Database) -> Callable[[], Awaitable[bool]]:
    async def nothing() -> bool:
        return not await rows_of(pool)

    return nothing


@pytest.mark.parametrize("misfortune", [lose_the_connection, be_cancelled], ids=lambda one: one.__name__)
async def test_what_the_world_did_counts_against_no_timer_and_all_run_when_it_is_over(
    pool: Database, no_pauses: None, monkeypatch: pytest.MonkeyPatch, misfortune: Misdeed
) -> None:
    journal, caution, count = Journal(), Caution(), 40
    monkeypatch.setattr(runtime, "FAILURES_MAX", 2)
    keys = [f"t{place:02}" for place in range(count)]
    journal.misdeeds = dict.fromkeys(keys, misfortune)
    await save(pool, *(timer(uuid4(), key) for key in keys))

    async def many_are_suspect() -> bool:
        return len(caution.suspects) > 5 and max(one.failed for one in caution.suspects.values()) > 2

    await run_on(pool, journal, caution, many_are_suspect)
    assert await rows_of(pool) == dict.fromkeys(keys, 0)
    journal.misdeeds.clear()
    await run_on(pool, journal, caution, nothing_is_left(pool), rounds=16)
    assert sorted(journal.ran) == keys
    assert not caution.suspects


async def test_a_connection_that_the_server_ended_after_long_is_the_timers_own_doing(
    pool: Database, no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.LONG_S", 0.0)
    journal = Journal()
    journal.misdeeds = {"long": lose_the_connection}
    await save(pool, timer(uuid4(), "long"))

    async def it_is_counted() -> bool:
        return await rows_of(pool) == {"long": 1}

    await run_on(pool, journal, Caution(), it_is_counted, rounds=FAILURES_MAX + 1)


async def test_a_suspect_that_was_cancelled_is_forgotten(pool: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "FORGET_S", 0.0)
    journal, caution = Journal(), Caution()
    journal.misdeeds = {"gone": time_out}
    await save(pool, timer(uuid4(), "gone"))

    async def it_is_suspect() -> bool:
        return bool(caution.suspects)

    await run_on(pool, journal, caution, it_is_suspect, rounds=1)
    await pool.execute("delete from delivery.timers")
    caution.suspects["probe", "gone"].not_before = 0
    async with pool.acquire() as connection, connection.transaction():
        await run_claim(connection, journal, caution)
    assert not caution.suspects


async def run_once(pool: Database, journal: Journal, caution: Caution, **more: Any) -> None:
    """One transaction, which may fail as a whole."""
    with suppress(TimeoutError):
        async with pool.acquire() as connection, connection.transaction():
            await run_claim(connection, journal, caution, **more)


async def test_a_suspect_is_left_alone_until_its_pause_is_over(pool: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would cost the others every second transaction, each as long as the server lets it be."""
    at = [1_000.0]
    monkeypatch.setattr(runtime, "monotonic", lambda: at[0])
    journal, caution = Journal(), Caution()
    journal.misdeeds = {"slow": time_out}
    await save(pool, timer(uuid4(), "slow"))
    await run_once(pool, journal, caution)
    await save(pool, timer(uuid4(), "other"))
    for _ in range(3):
        await run_once(pool, journal, caution)
    assert journal.began == [["slow"], ["other"]]
    at[0] += PAUSE_MAX_S
    await run_once(pool, journal, caution)
    assert journal.began == [["slow"], ["other"], ["slow"]]


async def test_who_was_only_beside_the_one_that_failed_is_no_suspect(pool: Database) -> None:
    journal, caution = Journal(), Caution()
    journal.misdeeds = {"slow": time_out}
    await save(pool, timer(uuid4(), "innocent", due_in_s=-9), timer(uuid4(), "slow", due_in_s=-5))
    for _ in range(3):
        await run_once(pool, journal, caution)
    assert journal.began == [["innocent", "slow"], ["innocent"], ["slow"]]
    assert list(caution.suspects) == [("probe", "slow")]


async def test_a_slow_timer_is_found_among_others_of_its_member(pool: Database) -> None:
    """All of them would wait for it for ever."""
    member, journal, caution = uuid4(), Journal(), Caution()
    journal.misdeeds = {"slow": time_out}
    await save(pool, *(timer(member, key, due_in_s=place - 9) for place, key in enumerate(("a", "slow", "b"))))
    for _ in range(5):
        await run_once(pool, journal, caution)
    assert journal.ran == ["a", "b"]
    assert list(caution.suspects) == [("probe", "slow")]


async def test_while_the_slow_one_is_looked_for_nobody_is_locked_who_has_no_turn(pool: Database) -> None:
    """Whoever takes their events would wait for a transaction that may take long and does nothing for them."""
    first, others, free, journal = uuid4(), [uuid4() for _ in range(3)], set[UUID](), Journal()

    async def see_who_is_free(*_: object) -> None:
        async with pool.acquire() as other, other.transaction():
            free.update(await claim_members(other, [first, *others], limit=9))

    journal.misdeeds = {"first": see_who_is_free}
    await save(pool, timer(first, "first", due_in_s=-9), *(timer(one, str(one)) for one in others))
    await run_once(pool, journal, Caution(limit=1))
    assert journal.ran == ["first"]
    assert free == {*others}


async def test_one_whose_member_somebody_holds_keeps_no_other_from_its_turn(pool: Database) -> None:
    """Also where one is taken at a time."""
    held, journal = uuid4(), Journal()
    await save(pool, timer(held, "held", due_in_s=-9), timer(uuid4(), "free"))
    async with pool.acquire() as other, other.transaction():
        await lock_members(other, [held])
        await run_once(pool, journal, Caution(limit=1))
    assert journal.ran == ["free"]


async def test_a_timer_behind_which_a_bug_ends_the_transaction_is_found_and_counted(
    pool: Database, no_pauses: None
) -> None:
    """Such as one in what settles the events that wait for its member: that is in no handler, and no savepoint."""
    guilty, journal, caution = uuid4(), Journal(), Caution()
    await save(pool, timer(guilty, "guilty", due_in_s=-9), timer(uuid4(), "innocent"))

    async def settle(_: Connection, member_ids: Sequence[UUID], *__: Any, **___: Any) -> int:
        if guilty in member_ids:
            raise ValueError
        return 0

    for _ in range(3 + FAILURES_MAX):
        with suppress(ValueError):
            await run_once(pool, journal, caution, settle=settle)
    assert await rows_of(pool) == {"guilty": 1}


async def test_where_processes_die_of_timers_each_is_run_alone_and_an_attempt_that_ends_counts_nothing(
    pool: Database, no_pauses: None
) -> None:
    """An innocent one must not be given up because its process died of something else while the world failed."""
    await save(pool, *(timer(uuid4(), key, due_in_s=place - 9) for place, key in enumerate("abc")))
    journal, caution = Journal(), Caution()
    journal.misdeeds["b"] = time_out
    attempts = Attempts(pool)
    await pool.execute("insert into delivery.attempts values ('timer probe c', '', 0, 0, 1)")

    async def count() -> dict[str, int]:
        return {row["consumer_group"]: row["attempts"] for row in await pool.fetch("select * from delivery.attempts")}

    async def turn() -> None:
        with suppress(TimeoutError):
            async with pool.acquire() as connection, connection.transaction():
                await run_claim(connection, journal, caution, attempts=attempts)

    await turn()
    assert journal.ran == ["a"]
    for _ in range(2 * ATTEMPTS_MAX):
        await turn()
    assert journal.ran == ["a", "c"]
    assert {key for began in journal.began for key in began} == {"a", "b", "c"}
    assert all(len(began) == 1 for began in journal.began)
    assert await count() == {"timer probe b": 0}
    hung = asyncio.Event()

    async def hang(*_: object) -> None:
        hung.set()
        await asyncio.Event().wait()

    journal.misdeeds["b"] = hang
    told_to_end = asyncio.create_task(turn())
    await asyncio.wait_for(hung.wait(), 10)
    told_to_end.cancel()
    await asyncio.gather(told_to_end, return_exceptions=True)
    assert await count() == {"timer probe b": 0}
    journal.misdeeds.clear()
    for _ in range(ATTEMPTS_MAX):
        await turn()
    assert await rows_of(pool) == await count() == {}


async def test_attempts_at_a_timer_count_for_no_later_one_of_its_key(pool: Database, no_pauses: None) -> None:
    """Given a process that died in the middle of an innocent timer, which another one then ran without counting, when
    it is set anew and processes die again, then it is not given up: most timers have the same key each day."""
    member, caution, journal = uuid4(), Caution(), Journal()
    await save(pool, timer(member, "a"))
    await pool.execute("insert into delivery.attempts values ('timer probe a', '', 0, 0, $1)", ATTEMPTS_MAX)
    await pool.execute(FORGET_TIMERS_ATTEMPTS, NOW)
    assert await pool.fetchval("select attempts from delivery.attempts") == ATTEMPTS_MAX, "it is due, and may kill"
    async with pool.acquire() as connection, connection.transaction():
        await run_claim(connection, journal, caution)
    await pool.execute(FORGET_TIMERS_ATTEMPTS, NOW)
    await save(pool, timer(member, "a"))
    async with pool.acquire() as connection, connection.transaction():
        await run_claim(connection, journal, caution, attempts=Attempts(pool))
    assert (journal.ran, await rows_of(pool)) == (["a", "a"], {})


async def test_a_timer_that_is_given_up_is_given_up_once_that_is_committed(pool: Database, no_pauses: None) -> None:
    """Where that fails it is not run again: the attempts at it are not forgotten."""
    await save(pool, timer(uuid4(), "a", due_in_s=-9))
    journal, caution, attempts = Journal(), Caution(), Attempts(pool)
    await pool.execute("insert into delivery.attempts values ('timer probe a', '', 0, 0, $1)", ATTEMPTS_MAX)

    async def give_up(*, fails: bool) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await run_claim(connection, journal, caution, attempts=attempts)
            if fails:
                raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await give_up(fails=True)
    assert await pool.fetchval("select failures from delivery.timers") == 0
    assert await pool.fetchval("select attempts from delivery.attempts") > ATTEMPTS_MAX
    await give_up(fails=False)
    assert await pool.fetchval("select failures from delivery.timers") == FAILURES_MAX
    assert journal.began == []
    assert await pool.fetchval("select count(*) from delivery.attempts") == 0


async def test_what_a_timer_brings_is_left_for_later_where_processes_die_of_timers(
    pool: Database, no_pauses: None
) -> None:
    """What waited for it may be what kills."""
    await save(pool, timer(uuid4(), "a", due_in_s=-9), timer(uuid4(), "b", due_in_s=-8))
    told: list[bool] = []

    async def settle(*_: Any, with_care: bool = False, **__: Any) -> int:
        told.append(with_care)
        return 0

    for attempts in (Attempts(pool), None):
        async with pool.acquire() as connection, connection.transaction():
            await run_claim(connection, Journal(), Caution(), settle=settle, attempts=attempts)
    assert told == [True, False]


@pytest.mark.parametrize(("before", "left"), [(ATTEMPTS_MAX - 1, {}), (ATTEMPTS_MAX, {"a": FAILURES_MAX})])
async def test_the_attempt_after_the_last_allowed_one_gives_a_timer_up_and_none_before_it(
    pool: Database, before: int, left: dict[str, int]
) -> None:
    await save(pool, timer(uuid4(), "a", due_in_s=-9))
    await pool.execute("insert into delivery.attempts values ('timer probe a', '', 0, 0, $1)", before)
    async with pool.acquire() as connection, connection.transaction():
        await run_claim(connection, Journal(), Caution(), attempts=Attempts(pool))
    assert await rows_of(pool) == left
