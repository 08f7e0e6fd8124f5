"""What waits is never lost: not after a day, not in a long queue."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared import housekeeping
from shared.clock import wall_now
from shared.database import Connection, Database, FromNextRelease
from shared.events import PainSettled
from shared.events.plans import PainSettledData
from shared.member_locks import lock_members
from shared.outcomes import Outcomes, Write
from shared.replaying import Drained, Reader, drain_queues
from shared.service import Service
from shared.settings import ServiceSettings
from shared.subscriptions import EventHandler
from shared.telemetry import RECORDS
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.books import GROUP, JOINING, Books
from tests.shared.delivery.conftest import effects_are, effects_of, held
from tests.shared.delivery.probe import (
    ACTIVITY,
    DECISION,
    MEMBERS,
    build,
    follow_activity,
    follow_members,
    pain,
    paused,
)


class HandClock:
    """Clinic time that a test moves."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def timed(run_service: RunService, probe_url: str, clock: HandClock) -> AsyncIterator[RunningService]:
    def build_timed(settings: ServiceSettings) -> Service:
        service = build(settings)
        service.clock = clock
        return service

    async with run_service(build_timed, name="probe", database_url=probe_url) as running:
        yield running


async def test_what_waits_for_a_day_is_a_dead_letter_and_is_taken_when_its_need_comes_after_all(
    timed: RunningService, publish: Publish, clock: HandClock
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8), pain(member, 1))
    await timed.settled()
    clock.ahead = timedelta(hours=23, minutes=59)
    await publish(ACTIVITY, pain(member, 2))
    await timed.settled()
    assert [row["state"] for row in await held(timed)] == ["waiting", "parked", "parked"]

    told = RECORDS.labels("probe.activity", "expired")._value
    before = told.get()
    clock.ahead = timedelta(hours=24, minutes=1)

    async def expired() -> bool:
        rows = [(row["state"], row["reason"]) for row in await held(timed)]
        assert rows == [("dead", "waited-too-long"), ("parked", "behind"), ("parked", "behind")]
        assert (await held(timed))[0]["detail"] == "member", "an operator learns what it needs"
        return True

    await eventually(expired)
    await eventually(lambda: told.get() == before + 1, within=5, what="it is counted, once")
    outcome = "select outcome, detail from delivery.inbox where outcome = 'dead'"
    assert [tuple(row) for row in await timed.service.database.fetch(outcome)] == [("dead", "waited-too-long")]

    await publish(ACTIVITY, pain(member, 3))
    await timed.settled()
    assert await expired_head(timed) == "dead", "without what it needs it stays what it is"
    await publish(MEMBERS, paused(member))
    await eventually(partial(effects_are, timed, member, [8, 1, 2, 3]))
    assert await held(timed) == []
    assert await timed.service.database.fetchval("select count(*) from delivery.inbox where outcome <> 'applied'") == 0


async def test_a_queue_that_cannot_be_taken_keeps_no_other_from_expiring(
    timed: RunningService, publish: Publish, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that expires at the same moment, as all that one transaction holds do, and comes on the next page."""
    expire, stuck = housekeeping._expire_queue, list[UUID]()

    async def fail_for_the_first(service: Any, connection: Any, member_id: UUID, group: str, **how: Any) -> int:
        if member_id in stuck:
            raise TimeoutError
        return await expire(service, connection, member_id, group, **how)

    monkeypatch.setattr(housekeeping, "EXPIRED_MAX", 1)
    monkeypatch.setattr(housekeeping, "_expire_queue", fail_for_the_first)
    await publish(ACTIVITY, *(pain(uuid4(), 8) for _ in range(2)))
    await timed.settled()
    first, other = [row["member_id"] for row in await held(timed)]
    stuck.append(first)
    await timed.service.database.execute(
        "update delivery.held_events set expires_at = (select min(expires_at) from delivery.held_events)"
    )
    clock.ahead = timedelta(hours=24, minutes=1)

    async def has_expired() -> bool:
        return {row["member_id"]: row["state"] for row in await held(timed)} == {first: "waiting", other: "dead"}

    await eventually(has_expired)


async def test_the_rest_of_a_queue_whose_head_waits_on_has_its_whole_time_to_wait(
    timed: RunningService, publish: Publish, clock: HandClock
) -> None:
    await publish(ACTIVITY, pain(uuid4(), 8))
    await timed.settled()
    await timed.service.database.execute(
        "update delivery.held_events set reason = 'long-queue', expires_at = now() - interval '1 minute'"
    )

    async def waits_on() -> bool:
        (row,) = await held(timed)
        assert (row["state"], row["reason"]) == ("waiting", "member")
        assert row["expires_at"] > clock.now() + timedelta(hours=23)
        return True

    await eventually(waits_on)


async def test_members_whom_somebody_holds_keep_no_others_from_expiring(
    timed: RunningService, publish: Publish, clock: HandClock
) -> None:
    *kept, other = members = sorted(uuid4() for _ in range(4))
    await publish(ACTIVITY, *[pain(member, 8) for member in members])
    await timed.settled()

    async def expired() -> set[UUID]:
        return {row["member_id"] for row in await held(timed) if row["state"] == "dead"}

    somebody = await asyncpg.connect(timed.database_url)
    try:
        async with somebody.transaction():
            await lock_members(somebody, kept)
            clock.ahead = timedelta(hours=24, minutes=1)
            assert await eventually(expired, within=5) == {other}
        await eventually(lambda: all_are(expired, set(members)))
    finally:
        await somebody.close()


async def all_are(found: Callable[[], Awaitable[set[UUID]]], wanted: set[UUID]) -> bool:
    return await found() == wanted


async def test_the_rest_of_a_queue_that_takes_too_long_is_taken_in_smaller_pages(
    timed: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, pages = uuid4(), list[int]()

    async def take(
        connection: Connection, reader: Reader, member_ids: Sequence[UUID], *, page: int, **rest: Any
    ) -> tuple[list[Drained], int]:
        pages.append(page)
        if page > 2:
            raise TimeoutError
        return await drain_queues(connection, reader, member_ids, page=page, **rest)

    monkeypatch.setattr(housekeeping, "QUEUE_PAGE", 8)
    monkeypatch.setattr(housekeeping, "drain_queues", take)
    await publish(ACTIVITY, pain(member, 9), *[pain(member, score) for score in (1, 2, 3, 4)])
    await timed.settled()
    await timed.service.database.execute("insert into switches values ('fixed')")
    await timed.service.database.execute(
        "update delivery.held_events set state = 'waiting', reason = 'long-queue', expires_at = now()"
        " where held_id = (select min(held_id) from delivery.held_events)"
    )
    await eventually(partial(effects_are, timed, member, [9, 1, 2, 3, 4]), within=40)
    assert pages[:3] == [8, 4, 2]
    assert await held(timed) == []


async def test_who_has_waited_longest_comes_first_where_many_expire_at_once(
    timed: RunningService, publish: Publish, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What expires meanwhile does not pass them."""
    monkeypatch.setattr(housekeeping, "EXPIRED_MAX", 1)
    expire, expired = housekeeping._expire_queue, list[UUID]()

    async def note(service: Any, connection: Any, member_id: UUID, group: str, **how: Any) -> int:
        expired.append(member_id)
        return await expire(service, connection, member_id, group, **how)

    monkeypatch.setattr(housekeeping, "_expire_queue", note)
    members = [uuid4() for _ in range(3)]
    for member in members:
        await publish(ACTIVITY, pain(member, 8))
        await timed.settled()
    clock.ahead = timedelta(hours=24, minutes=1)
    await eventually(lambda: len(expired) == len(members), within=20)
    assert expired == members


async def expired_head(running: RunningService) -> str:
    return str((await held(running))[0]["state"])


async def test_a_queue_longer_than_one_transaction_is_taken_whole_and_in_order(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.replaying.QUEUE_PAGE", 40)
    member = uuid4()
    scores = [8, *(number % 7 for number in range(100))]
    await publish(ACTIVITY, *(pain(member, score) for score in scores))
    await probe.settled()
    assert len(await held(probe)) == 101
    await publish(MEMBERS, paused(member))
    await eventually(partial(effects_are, probe, member, scores))
    assert await held(probe) == []
    assert await probe.service.database.fetchval("select count(*) from delivery.inbox where outcome <> 'applied'") == 0


async def test_the_queues_of_many_members_share_a_transaction_and_none_is_cut_short(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released together, each gets its share of a page; what is left of each goes on behind, in order."""
    monkeypatch.setattr("shared.replaying.QUEUE_PAGE", 40)
    scores = {uuid4(): [8, *(number % 7 for number in range(length))] for length in (3, 30, 50)}
    await publish(ACTIVITY, *(pain(member, score) for member, queue in scores.items() for score in queue))
    await probe.settled()
    assert len(await held(probe)) == 86
    await publish(MEMBERS, *map(paused, scores))
    for member, queue in scores.items():
        await eventually(partial(effects_are, probe, member, queue))
    assert await held(probe) == []
    assert await probe.service.database.fetchval("select count(*) from delivery.inbox where outcome <> 'applied'") == 0


async def test_what_waits_in_a_group_that_is_read_no_more_keeps_nobody_else_from_expiring(
    timed: RunningService, publish: Publish, clock: HandClock
) -> None:
    """Given a group that an earlier version had, then what it left waiting is an operator's, and of no harm."""
    members = uuid4(), uuid4()
    await publish(ACTIVITY, *(pain(member, 8) for member in members))
    await timed.settled()
    gone, left = "update delivery.held_events set consumer_group = 'probe.gone' where member_id = $1", min(members)
    await timed.service.database.execute(gone, left)
    clock.ahead = timedelta(hours=24, minutes=1)

    async def expired() -> bool:
        assert [row["state"] for row in await held(timed)] == ["dead"]
        return True

    await eventually(expired, within=20)
    assert [row["state"] for row in await held(timed, "probe.gone")] == ["waiting"]


async def test_a_command_that_brings_what_an_event_waits_for_releases_it_in_its_own_transaction(
    probe: RunningService, publish: Publish
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8), pain(member, 1))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked"]
    async with probe.service.command("enrol", member_ids=[member]) as work:
        await work.connection.execute("insert into known_members values ($1)", member)
    assert await effects_of(probe, member) == [8, 1]
    assert await held(probe) == []


@dataclass(frozen=True)
class Next:
    """A day later, what a service has of its runtime."""

    database: Database
    readers: Mapping[str, Reader]
    name: str = "probe"
    clock: HandClock = field(default_factory=lambda: HandClock(timedelta(hours=25)))

    def committed(self, published: int) -> None:
        pass


@pytest.mark.parametrize("failing", [1, 2, 5])
async def test_what_fails_holds_up_no_expired_event_behind_it(
    books: Books, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Given as many queues at which a look fails as are looked at at once, or more, as where their members' rows are of
    the next release, when another waited too long, too, then it has its turn in the same round, and so has the rest of
    a long queue."""
    monkeypatch.setattr(housekeeping, "EXPIRED_MAX", 2)
    bad, good, long, looks = [uuid4() for _ in range(failing)], uuid4(), uuid4(), list[UUID]()
    for member in (*bad, good, long):
        await books.take(books.write(pain(member, 8)))
    rest = "update delivery.held_events set reason = 'long-queue', expires_at = expires_at + interval '1 m'"
    await books.pool.execute(f"{rest} where member_id = $1", long)

    async def run(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        looks.extend(event.subject for event in events)
        if events[0].subject in bad:
            raise FromNextRelease
        return await follow_activity(connection, events, now=now)

    subscription = replace(books.subscription(GROUP), run=run)
    books.readers = {**books.readers, GROUP: replace(books.readers[GROUP], subscription=subscription)}
    with pytest.raises(FromNextRelease):
        await housekeeping.expire_waiting(cast(Any, Next(books.pool, books.readers)), {}, lambda: False)
    assert sorted(looks) == sorted((*bad, good, long)), "each has one look in a round"
    rows = {row["member_id"]: (row["state"], row["reason"]) for row in await books.held()}
    assert rows[good] == ("dead", "waited-too-long")
    assert rows[long] != ("waiting", "long-queue")
    assert {rows[member] for member in bad} == {("waiting", "member")}, "and is blamed for nothing"


async def test_what_waits_under_a_topic_that_its_group_no_longer_reads_holds_up_nobody(books: Books) -> None:
    """Given a member of whom something waits under a topic of a release before, and something under today's, when what
    both need comes, then what its group reads today is taken, and the rest is an operator's."""
    member, before = uuid4(), "careloop.before"
    await books.take(books.write(pain(member, 8)))
    await books.pool.execute("update delivery.held_events set topic = $1", before)
    await books.take(books.write(pain(member, 8)))
    assert [(row["topic"], row["state"]) for row in await books.held()] == [(before, "waiting"), (ACTIVITY, "waiting")]
    await books.take(books.write(paused(member), topic=MEMBERS), group=JOINING)
    assert await books.effects(member) == [8]
    assert [(row["topic"], row["state"]) for row in await books.held()] == [(before, "waiting")]


def handled_by(books: Books, group: str, run: EventHandler) -> None:
    subscription = replace(books.subscription(group), run=run)
    books.readers = {**books.readers, group: replace(books.readers[group], subscription=subscription)}


async def test_what_waited_sees_what_the_handler_left_to_be_written_and_comes_behind_what_it_decided(
    books: Books,
) -> None:
    member = uuid4()
    waiting, joining = pain(member, 8), paused(member)

    async def follow(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        outcomes = Outcomes()
        for event in events:
            data = PainSettledData(episode_id=event.subject, score=1, baseline=1.0, decision=DECISION)
            outcomes.publish(PainSettled, data, because=event)
            outcomes.writes.append(Write("insert into known_members values ($1)", [event.subject]))
        return outcomes

    handled_by(books, JOINING, follow)
    await books.take(books.write(waiting))
    await books.take(books.write(joining, topic=MEMBERS), group=JOINING)
    assert await books.effects(member) == [8]
    assert [event["causationid"] for event in await books.published()] == [joining.id, waiting.id]


async def test_what_waits_for_another_that_waits_is_taken_in_the_same_transaction(books: Books) -> None:
    member = uuid4()

    async def follow_once_open(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        if await connection.fetchval("select exists (select from switches where name = 'open')"):
            return await follow_members(connection, events, now=now)
        outcomes = Outcomes()
        for event in events:
            outcomes.wait(event, needs="opening")
        return outcomes

    handled_by(books, JOINING, follow_once_open)
    await books.take(books.write(pain(member, 8)))
    await books.take(books.write(paused(member), topic=MEMBERS), group=JOINING)
    assert [row["state"] for group in (GROUP, JOINING) for row in await books.held(group)] == ["waiting"] * 2
    async with books.transaction() as connection:
        await lock_members(connection, [member])
        await connection.execute("insert into switches values ('open')")
        await books.settle(connection, [member], wall_now())
    assert await books.effects(member) == [8]
    assert await books.held() == await books.held(JOINING) == []
