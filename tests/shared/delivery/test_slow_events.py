"""An event that takes longer than a transaction may, each time: it costs its own member, and no other event is blamed
for a database that is slow."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from shared import housekeeping
from shared.clock import WallClock
from shared.database import Connection, TookTooLong
from shared.events import PainReported
from shared.outcomes import Outcomes
from shared.positions import load_progress
from shared.replaying import Drained, Reader, drain_queues
from shared.slow_events import BLAMED_MAX, Suspicion
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.shared.delivery.books import GROUP, JOINING, SAFETY, Books, take_one
from tests.shared.delivery.conftest import RED_FLAG, effects_are, held, neighbour_of, partition_of
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, build, follow_activity, pain, paused

SLOW = 6
"""A score at which the handler takes longer than it may."""
Deed = Callable[[], Awaitable[object]]


def make_slow(books: Books, tries: list[int], meanwhile: Deed, *, group: str = GROUP, times: int = 99) -> None:
    """The handler of a group takes too long over SLOW, so many `times`; how many events it was given each time.
    `meanwhile`: what others do while it does."""
    run = books.subscription(group).run

    async def take_long(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        if any(event.data.score == SLOW for event in events) and len(tries) < times:
            tries.append(len(events))
            await meanwhile()
            await connection.execute("select pg_sleep(1)", timeout=0.02)
        return await run(connection, events, now=now)

    reader = replace(books.readers[group], subscription=replace(books.subscription(group), run=take_long))
    books.readers = {**books.readers, group: reader}


async def others_get_on(books: Books, group: str = GROUP) -> None:
    await books.take(books.write(pain(uuid4(), 1), partition=1), group=group)


async def nobody_gets_on() -> None: ...


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr("shared.taking.asyncio.sleep", lambda _: sleep(0))


async def test_an_event_that_takes_too_long_costs_its_own_member_where_others_get_on(
    books: Books, no_pauses: None
) -> None:
    """Given eight events of which one takes too long, when they are taken, then that one is a dead letter, its member's
    next one queues behind it and everybody else's took effect."""
    guilty, tries = uuid4(), list[int]()
    others = [uuid4() for _ in range(3)]
    make_slow(books, tries, partial(others_get_on, books))
    around = [books.write(pain(member, 1)) for member in others]
    slow, behind = books.write(pain(guilty, SLOW)), books.write(pain(guilty, 2))
    after = [books.write(pain(member, 2)) for member in others]
    await books.take_as_the_runtime(*around, slow, behind, *after)
    assert [(row["record_offset"], row["state"], row["reason"]) for row in await books.held()] == [
        (slow.offset, "dead", "takes-too-long"),
        (behind.offset, "parked", "behind"),
    ]
    assert [await books.effects(member) for member in [guilty, *others]] == [[], [1, 2], [1, 2], [1, 2]]
    # The whole chunk in company and by itself, each half once; the last tries are alone.
    assert tries == [8, 8, 8, 4, 2, *[1] * BLAMED_MAX]


async def test_no_event_is_blamed_while_no_other_of_its_group_gets_on(books: Books, no_pauses: None) -> None:
    """It may be the database that is slow. When that heals, everything takes effect."""
    member, tries = uuid4(), list[int]()
    make_slow(books, tries, nobody_gets_on, times=4 * BLAMED_MAX)
    await take_one(books.taker(), books.write(pain(member, SLOW)))
    assert (await books.effects(member), await books.held()) == ([SLOW], [])
    assert len(tries) == 4 * BLAMED_MAX


async def test_one_attempt_less_than_that_blames_nobody(books: Books, no_pauses: None) -> None:
    member, tries = uuid4(), list[int]()
    # In company, alone without suspicion, and then as often as it may.
    make_slow(books, tries, partial(others_get_on, books), times=2 + BLAMED_MAX - 1)
    await take_one(books.taker(), books.write(pain(member, SLOW)))
    assert (await books.effects(member), await books.held()) == ([SLOW], [])


async def test_a_safety_group_goes_on_behind_what_takes_too_long(books: Books, no_pauses: None) -> None:
    member, tries = uuid4(), list[int]()
    make_slow(books, tries, partial(others_get_on, books, SAFETY), group=SAFETY)
    first, second = pain(member, SLOW, findings=RED_FLAG), pain(member, 2, findings=RED_FLAG)
    await books.take_as_the_runtime(books.write(first), books.write(second), group=SAFETY)
    assert [(row["state"], row["reason"], row["blocks"]) for row in await books.held(SAFETY)] == [
        ("dead", "takes-too-long", False)
    ]
    assert len(await books.published()) == 1


async def test_what_waited_too_long_for_a_lock_is_blamed_for_nothing(
    books: Books, no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else held it, however long that was."""
    monkeypatch.setattr("shared.database.LONG_S", 0.0)
    member, tries = uuid4(), list[int]()
    run = books.subscription(GROUP).run

    async def wait_for_a_lock(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        if len(tries) < 4 * BLAMED_MAX:
            tries.append(len(events))
            await others_get_on(books)
            await connection.execute("set local lock_timeout = '10ms'")
            await connection.execute("lock table switches in access exclusive mode")
        return await run(connection, events, now=now)

    reader = replace(books.readers[GROUP], subscription=replace(books.subscription(GROUP), run=wait_for_a_lock))
    slow, books.readers = books.taker(), {**books.readers}
    slow.reader = reader
    slow.subscription = reader.subscription
    async with books.transaction() as connection:
        await connection.execute("lock table switches in share mode")
        taking = asyncio.create_task(take_one(slow, books.write(pain(member, SLOW))))
        await eventually(lambda: len(tries) == 4 * BLAMED_MAX, within=20, what="it was tried often")
        await taking
    assert (await books.effects(member), await books.held()) == ([SLOW], [])


async def test_what_an_operator_cancels_is_blamed_for_nothing(books: Books, no_pauses: None) -> None:
    """Somebody ends whatever runs, again and again, and this event is what runs each time."""
    member, tries = uuid4(), list[int]()
    run = books.subscription(GROUP).run

    async def be_cancelled(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        if len(tries) < 4 * BLAMED_MAX:
            tries.append(len(events))
            await others_get_on(books)
            await connection.execute("select pg_cancel_backend(pg_backend_pid()), pg_sleep(1)")
        return await run(connection, events, now=now)

    slow = books.taker()
    slow.subscription = replace(books.subscription(GROUP), run=be_cancelled)
    slow.reader = replace(books.readers[GROUP], subscription=slow.subscription)
    await take_one(slow, books.write(pain(member, SLOW)))
    assert (await books.effects(member), await books.held()) == ([SLOW], [])
    assert len(tries) == 4 * BLAMED_MAX


async def test_a_handler_that_waits_for_what_never_comes_is_given_up(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a handler that hangs over one event and asks the database for nothing, when others of the group are taken
    meanwhile, then the event is a dead letter and those behind it in its partition take effect."""
    monkeypatch.setattr("shared.database.HANGS_S", 0.3)
    guilty = uuid4()
    behind = neighbour_of(guilty)
    other = next(member for member in iter(uuid4, None) if partition_of(member) != partition_of(guilty))
    hung = 0

    async def hang(connection: Connection, events: Sequence[PainReported], /, *, now: Any) -> Outcomes:
        nonlocal hung
        if any(event.subject == guilty for event in events):
            hung += 1
            await publish(ACTIVITY, pain(other, 1))
            await asyncio.Event().wait()
        return await follow_activity(connection, events, now=now)

    async with run_service(partial(build, activity=hang), name="probe", database_url=probe_url) as running:
        await publish(ACTIVITY, pain(guilty, 1), pain(behind, 2))
        await eventually(partial(effects_are, running, behind, [2]), within=60)
        assert [(row["state"], row["reason"]) for row in await held(running)] == [("dead", "takes-too-long")]
        assert hung >= BLAMED_MAX


async def test_whoever_takes_too_long_leaves_to_others_what_waited_for_it(books: Books, no_pauses: None) -> None:
    """It may be what waited that takes long, and that may be a whole page: it is left to whoever takes the rest of long
    queues, in ever smaller pages. What brought what it needs takes effect."""
    member, tries = uuid4(), list[int]()
    await books.take_as_the_runtime(books.write(pain(member, 8)), books.write(pain(member, SLOW)))
    make_slow(books, tries, nobody_gets_on)
    await take_one(books.taker(JOINING), books.write(paused(member), topic=MEMBERS))
    assert tries == [2, 2], "together with what waits: in company, and once by itself"
    assert [(row["state"], row["reason"]) for row in await books.held()] == [
        ("waiting", "long-queue"),
        ("parked", "behind"),
    ]
    assert await books.pool.fetchval("select count(*) from known_members") == 1


async def test_the_head_of_a_queue_that_takes_too_long_by_itself_is_a_dead_letter(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the rest of a queue whose head takes too long, when it has been tried alone, and others got on, then it is
    a dead letter, and another member's queue, which came behind it, was taken."""
    guilty, other = uuid4(), uuid4()

    async def take(
        connection: Connection, reader: Reader, member_ids: Sequence[UUID], **rest: Any
    ) -> tuple[list[Drained], int]:
        if guilty in member_ids:
            await publish(ACTIVITY, pain(meanwhile := uuid4(), 1))
            await eventually(partial(effects_are, running, meanwhile, [1]), within=20)
            raise TookTooLong
        return await drain_queues(connection, reader, member_ids, **rest)

    monkeypatch.setattr(housekeeping, "QUEUE_PAGE", 4)
    monkeypatch.setattr(housekeeping, "drain_queues", take)
    async with run_service(build, name="probe", database_url=probe_url) as running:
        await publish(ACTIVITY, *(pain(member, score) for member in (guilty, other) for score in (9, 1)))
        await running.settled()
        await running.service.database.execute("insert into switches values ('fixed')")
        await running.service.database.execute(
            "update delivery.held_events set state = 'waiting', reason = 'long-queue', expires_at = now()"
            " where state = 'dead'"
        )
        await eventually(partial(effects_are, running, other, [9, 1]), within=40)

        async def is_condemned() -> bool:
            assert [row["reason"] for row in await held(running)] == ["takes-too-long", "behind"]
            return True

        await eventually(is_condemned, within=60)


async def test_nobody_is_blamed_for_what_the_head_before_it_did(books: Books) -> None:
    suspicion = Suspicion(books.pool, books.subscription(GROUP))
    suspicion.turn_to(1)
    for _ in range(BLAMED_MAX):
        with suppress(TookTooLong):
            async with suspicion.trying():
                await others_get_on(books)
                raise TookTooLong
    suspicion.turn_to(1)
    assert suspicion.is_guilty
    for held_id in (2, 1):  # in the end the first, anew
        suspicion.turn_to(held_id)
        assert not suspicion.is_guilty


async def test_whoever_gets_on_is_seen_in_whichever_partition(books: Books) -> None:
    """Also where another one is far ahead of it."""
    await books.take(*(books.write(pain(uuid4(), 1)) for _ in range(3)))
    told = []
    for _ in range(2):
        async with books.pool.acquire() as connection:
            told.append(await load_progress(connection, GROUP, ACTIVITY))
        await books.take(books.write(pain(uuid4(), 1), partition=1))
    assert told[0] < told[1]


async def test_the_next_head_of_a_queue_is_tried_whatever_the_one_before_it_did(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 8)))
    (row,) = await books.held()
    suspicion = Suspicion(books.pool, books.subscription(GROUP), blamed=BLAMED_MAX, held_id=row["held_id"] - 1)
    pages = {(member, GROUP): housekeeping.Page(1, suspicion)}
    service = SimpleNamespace(
        name="probe", database=books.pool, readers=books.readers, clock=WallClock(), committed=lambda _: None
    )
    await housekeeping._take_page(cast(Any, service), pages, (member, GROUP), is_careful=False)
    assert [(row["state"], row["reason"]) for row in await books.held()] == [("waiting", "member")]


@pytest.mark.parametrize("seen", [(None, 5), (5, None), (None, None), (5, 5), (5, 3)], ids=str)
async def test_nobody_is_blamed_where_it_is_not_known_that_others_got_on(
    books: Books, monkeypatch: pytest.MonkeyPatch, seen: tuple[int | None, int | None]
) -> None:
    """Such as where the database does not answer who asks it, or was restored meanwhile: it is not well then."""
    asked = 0

    async def load(*_: object) -> int:
        nonlocal asked
        asked += 1
        if (progress := seen[(asked - 1) % 2]) is None:
            raise TimeoutError
        return progress

    monkeypatch.setattr("shared.slow_events.load_progress", load)
    suspicion = Suspicion(books.pool, books.subscription(GROUP))
    for _ in range(BLAMED_MAX):
        with suppress(TookTooLong):
            async with suspicion.trying():
                raise TookTooLong
    assert asked == 2 * BLAMED_MAX
    assert not suspicion.is_guilty
