"""Who is condemned for what: an event for what it does to the process that takes it, nobody for what others forget."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Never, cast
from uuid import uuid4

import pytest

from shared.clock import wall_now
from shared.database import Connection, open_database
from shared.events import PainReported
from shared.housekeeping import FORGET_ATTEMPTS
from shared.intake import STALLED_STARTS_MAX
from shared.outcomes import Outcomes
from shared.positions import ATTEMPTS_MAX, count_starts, ensure_positions, record_attempt, take_back_attempt
from shared.replaying import Reader, drain_queues
from tests.fixtures.services import Publish, RunService
from tests.shared.delivery.books import GROUP, SAFETY, Books, take_one
from tests.shared.delivery.conftest import RED_FLAG, effects_of, held, partition_of
from tests.shared.delivery.probe import ACTIVITY, build, pain


async def die(connection: Connection, events: Sequence[PainReported], /, *, now: object) -> Outcomes:
    raise AssertionError("it would have ended the process once more")


@pytest.mark.parametrize("fault", ["time-ahead", "identity-conflict"])
async def test_what_ends_the_process_of_a_safety_group_is_condemned_whatever_else_is_at_fault(
    books: Books, fault: str
) -> None:
    """Given an event that ended its process three times, which a safety group would look at in spite of its fault, when
    it is taken once more, then it is a dead letter and what comes behind it is looked at."""
    first = pain(uuid4(), 1)
    guilty = pain(first.subject, 2, event_id=first.id, findings=RED_FLAG)
    if fault == "time-ahead":
        guilty = pain(first.subject, 2, findings=RED_FLAG).model_copy(update={"time": wall_now() + timedelta(days=1)})
    await books.take_as_the_runtime(books.write(first), group=SAFETY)
    readers = dict(books.readers)
    books.readers = readers | {SAFETY: Reader(replace(books.subscription(SAFETY), run=die), readers[SAFETY].decoder)}
    record = books.write(guilty)
    async with books.pool.acquire() as connection:
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(connection, SAFETY, ACTIVITY, record.partition, record.offset)
    await take_one(books.taker(SAFETY), record, counted=True)
    books.readers, books.bases[SAFETY, record.partition] = readers, record.offset + 1
    await books.take_as_the_runtime(books.write(pain(first.subject, 3, findings=RED_FLAG)), group=SAFETY)
    assert [(row["state"], row["reason"], row["blocks"]) for row in await books.held(SAFETY)] == [
        ("dead", "kills-the-process", False)
    ]
    assert len(await books.published()) == 1


class DyingDecoder:
    is_from_apps = True

    def decode(self, value: bytes | None, headers: object) -> Never:
        raise AssertionError("it would have ended the process once more")


@pytest.mark.parametrize("group", [GROUP, SAFETY])
async def test_a_record_whose_condemning_ended_the_process_as_well_is_condemned_unread(
    books: Books, group: str
) -> None:
    """To read it may be what it kills with."""
    event, taker = pain(uuid4(), 2), books.taker(group)
    record = books.write(event)
    taker.reader = Reader(taker.subscription, cast(Any, DyingDecoder()))
    async with books.pool.acquire() as connection:
        for _ in range(ATTEMPTS_MAX + 1):
            await record_attempt(connection, group, ACTIVITY, record.partition, record.offset)
    async with asyncio.timeout(10):
        await take_one(taker, record, counted=True)
    assert [(row["reason"], row["member_id"], row["blocks"], row["value"]) for row in await books.held(group)] == [
        ("kills-the-process", event.subject, group == GROUP, record.value)
    ]
    async with books.pool.acquire() as connection:  # mended, an operator replays it
        (drained,), _ = await drain_queues(
            connection, books.readers[group], [event.subject], service="probe", now=wall_now(), replay_head=True
        )
    assert [fate.outcome for fate in drained.fates] == (["applied"] if group == GROUP else [])


async def test_an_event_does_not_pay_for_a_client_that_has_forgotten_its_topic(books: Books) -> None:
    """The client forgets how many partitions a topic has while the broker cannot tell."""
    event = pain(uuid4(), 3)
    await take_one(books.taker(GROUP), books.write(event), partitions=0)
    assert await books.effects(event.subject) == [3]
    assert await books.held() == []


async def test_the_attempt_that_comes_after_the_last_allowed_one_condemns_and_none_before_it(books: Books) -> None:
    member = uuid4()
    first, second = books.write(pain(member, 1)), books.write(pain(member, 2))
    async with books.pool.acquire() as connection:
        for _ in range(ATTEMPTS_MAX - 1):
            await record_attempt(connection, GROUP, ACTIVITY, 0, first.offset)
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(connection, GROUP, ACTIVITY, 0, second.offset)
    for record in (first, second):
        await take_one(books.taker(GROUP), record, counted=True)
    assert await books.effects(member) == [1]
    (row,) = await books.held()
    assert (row["record_offset"], row["reason"]) == (1, "kills-the-process")
    assert row["event_id"] is not None, "it is read once more, so that a copy of it is known"


async def take_nothing_back(*_: object) -> Never:
    raise TimeoutError("every connection is in use")


def failing_at_first(books: Books, times: int, began: list[int]) -> None:
    """The world fails so often, with the record in hand."""
    run = books.subscription(GROUP).run

    async def fail_at_first(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        began.append(await connection.fetchval("select max(attempts) from delivery.attempts"))
        if len(began) <= times:
            raise ConnectionError
        return await run(connection, events, now=now)

    reader = replace(books.readers[GROUP], subscription=replace(books.subscription(GROUP), run=fail_at_first))
    books.readers = {**books.readers, GROUP: reader}


@pytest.mark.parametrize("comes_back_after", [1, ATTEMPTS_MAX + 2])
async def test_no_event_is_condemned_for_attempts_that_nobody_could_take_back(
    books: Books, monkeypatch: pytest.MonkeyPatch, comes_back_after: int
) -> None:
    """Given failures of the world that leave no connection to take the attempt back either, when it is made again, then
    it makes up for those, and for no more: no process died of it."""
    member, began, given_back = uuid4(), list[int](), list[object]()

    async def come_back(connection: Connection, *place: Any) -> None:
        given_back.append(place)
        if len(given_back) < comes_back_after:
            raise TimeoutError
        await take_back_attempt(connection, *place)

    monkeypatch.setattr("shared.taking.take_back_attempt", come_back)
    failing_at_first(books, ATTEMPTS_MAX + 3, began)
    await take_one(books.taker(), books.write(pain(member, 1)), counted=True)
    assert await books.effects(member) == [1]
    assert await books.held() == []
    assert began == [1] * (ATTEMPTS_MAX + 4)


async def test_who_owes_an_attempt_takes_back_none_that_killed(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a record that ended its process three times, when the world fails as it is condemned and nothing can
    be taken back, then it is condemned all the same."""
    member, began = uuid4(), list[int]()
    innocent, record = books.write(pain(member, 1)), books.write(pain(member, 2))
    async with books.pool.acquire() as connection:
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(connection, GROUP, ACTIVITY, record.partition, record.offset)
    monkeypatch.setattr("shared.taking.take_back_attempt", take_nothing_back)
    failing_at_first(books, 2, began)
    taker, taking = books.taker(), 0
    await take_one(taker, innocent, counted=True)
    tried = taker._try

    async def fail_twice(*arguments: Any, **named: Any) -> None:
        nonlocal taking
        taking += 1
        if taking <= 2:
            raise ConnectionError
        await tried(*arguments, **named)

    monkeypatch.setattr(taker, "_try", fail_twice)
    await take_one(taker, record, counted=True)
    assert await books.effects(member) == [1]
    assert [(row["record_offset"], row["reason"]) for row in await books.held()] == [(1, "kills-the-process")]
    assert await books.pool.fetchval("select max(attempts) from delivery.attempts") == ATTEMPTS_MAX + 1


async def test_a_chunk_that_is_committed_forgives_its_partition_the_starts_before_it(books: Books) -> None:
    async with books.transaction() as connection:
        for _ in range(2):
            await count_starts(connection, GROUP, ACTIVITY, [0, 1])
    await books.take(books.write(pain(uuid4(), 1)))
    rows = await books.pool.fetch(
        "select stalled_starts from delivery.positions where consumer_group = $1 order by partition", GROUP
    )
    assert [row["stalled_starts"] for row in rows] == [0, 2]


async def test_where_starts_made_no_progress_each_record_is_counted_for_itself(
    run_service: RunService, probe_url: str, publish: Publish
) -> None:
    """Given an event behind another in its partition that ended its process at each start, when the service starts once
    more, then that one is condemned, and not whoever lies before it."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1), pain(member, 2), pain(member, 3))
    partition = partition_of(member)
    pool = await open_database(probe_url, connections=2, application="test")
    async with pool.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {partition: 0})
        for _ in range(STALLED_STARTS_MAX):
            await count_starts(connection, GROUP, ACTIVITY, [partition])
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(connection, GROUP, ACTIVITY, partition, 1)
    await pool.close()
    async with run_service(build, name="probe", database_url=probe_url) as running:
        await running.settled()
        assert await effects_of(running, member) == [1]
        assert [(row["record_offset"], row["state"], row["reason"]) for row in await held(running)] == [
            (1, "dead", "kills-the-process"), (2, "parked", "behind"),
        ]  # fmt: skip


async def test_attempts_at_a_record_are_remembered_until_its_own_group_has_passed_it(books: Books) -> None:
    """Given a record that ended its process, when another partition and another group are beyond its place, then a
    clean-up, as each start makes one, forgets no attempt: it could end its process for ever."""
    record = books.write(pain(uuid4(), 1))
    there = [books.write(pain(uuid4(), 1), partition=1) for _ in range(2)]
    async with books.pool.acquire() as connection:
        await record_attempt(connection, GROUP, ACTIVITY, 0, record.offset)

    async def attempts_after_a_clean_up() -> int:
        await books.pool.execute(FORGET_ATTEMPTS)
        return int(await books.pool.fetchval("select count(*) from delivery.attempts"))

    await books.take(*there)
    assert await attempts_after_a_clean_up() == 1, "another partition has nothing to do with it"
    await books.take(record, group=SAFETY)
    assert await attempts_after_a_clean_up() == 1, "nor has another group"
    await books.take(record)
    assert await attempts_after_a_clean_up() == 0
