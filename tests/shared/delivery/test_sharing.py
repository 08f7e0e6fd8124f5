"""Lanes with little to take share a transaction; what fails costs only whom it concerns."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from shared import sharing
from shared import taking as runtime
from shared.consuming import PositionLost
from shared.lanes import Lane, RawChunk
from shared.member_locks import lock_members
from shared.sharing import SharedTransactions
from shared.taking import ChunkTaker
from shared.telemetry import CHUNK_RETRIES
from tests.fixtures.databases import connected
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.books import GROUP, PARTITIONS, Books, Record
from tests.shared.delivery.probe import ACTIVITY, pain

WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
OWN = "select count(distinct xmin::text) from effects"


class Taking:
    """Notes who shares a transaction; each goes on until it is let go."""

    def __init__(self) -> None:
        self.together: list[list[int]] = []
        self.let_go = asyncio.Event()
        self.fails = False

    async def __call__(self, chunks: Sequence[RawChunk]) -> None:
        self.together.append([chunk.partition for chunk in chunks])
        await self.let_go.wait()
        if self.fails:
            raise PositionLost


def chunk(partition: int, many: int = 1) -> RawChunk:
    return RawChunk(partition, 0, many, cast(Any, [None] * many))


def join(shared: SharedTransactions, *chunks: RawChunk) -> list["asyncio.Task[bool]"]:
    return [asyncio.create_task(shared.join(one)) for one in chunks]


async def test_who_comes_at_once_goes_together_and_who_comes_meanwhile_with_the_next() -> None:
    taking = Taking()
    shared = SharedTransactions(taking, records_max=500)
    first = join(shared, chunk(0), chunk(1), chunk(2))
    await eventually(lambda: len(taking.together) == 1)
    later = join(shared, chunk(3), chunk(4))
    taking.let_go.set()
    assert await asyncio.gather(*first, *later) == [True] * 5
    assert taking.together == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("second", [40, 30])
async def test_no_more_records_than_a_chunk_may_have(second: int) -> None:
    taking = Taking()
    taking.let_go.set()
    shared = SharedTransactions(taking, records_max=100)
    assert all(await asyncio.gather(*join(shared, chunk(0, 60), chunk(1, second), chunk(2, 30))))
    assert taking.together == [[0, 1], [2]]


async def test_a_slow_one_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 0.01)
    taking = Taking()
    shared = SharedTransactions(taking, records_max=500)
    slow = join(shared, chunk(0))
    await eventually(lambda: len(taking.together) == 1)
    other = join(shared, chunk(1))
    await eventually(lambda: taking.together == [[0], [1]])
    taking.let_go.set()
    assert await asyncio.gather(*slow, *other) == [True, True]


async def test_who_let_go_is_left_out_and_a_failure_is_told_to_each() -> None:
    taking = Taking()
    taking.fails = True
    shared = SharedTransactions(taking, records_max=500)
    first = join(shared, chunk(0))
    await eventually(lambda: len(taking.together) == 1)
    gone, *waiting = join(shared, chunk(1), chunk(2), chunk(3))
    await asyncio.sleep(0)
    gone.cancel()
    taking.let_go.set()
    assert await asyncio.gather(*first, *waiting) == [False, False, False]
    assert taking.together == [[0], [2, 3]]


def take_at_once(books: Books, taker: ChunkTaker, *records: Record, hurried: bool = True) -> list["asyncio.Task[None]"]:
    """Each record as the chunk of its partition."""
    tasks = []
    for record in records:
        lane = Lane(TopicPartition(ACTIVITY, record.partition), start=record.offset, cautious=False)
        raw = RawChunk(record.partition, record.offset, record.offset + 1, [cast(Any, record)], hurried)
        tasks.append(asyncio.create_task(taker.take(lane, raw, counted=False, partitions=PARTITIONS)))
    return tasks


async def test_two_partitions_are_one_transaction_and_each_counts_its_own(books: Books) -> None:
    ours, theirs = books.write(pain(uuid4(), 1)), books.write(pain(uuid4(), 2), partition=1)
    await asyncio.gather(*take_at_once(books, books.taker(), ours, theirs))
    assert await books.pool.fetchval("select count(*) from effects") == 2
    assert await books.pool.fetchval(OWN) == 1
    rows = await books.pool.fetch(
        "select next_offset, records_new from delivery.positions where consumer_group = $1 order by partition", GROUP
    )
    assert [tuple(row) for row in rows] == [(1, 1), (1, 1)]


async def test_who_hurries_does_not_wait_for_those_who_had_patience(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 60.0)
    monkeypatch.setattr(runtime, "SHORT_PATIENCE", "20s")
    slow, quick = uuid4(), uuid4()
    records = books.write(pain(slow, 1)), books.write(pain(quick, 2), partition=1)
    taker = books.taker()
    async with books.transaction() as connection:
        await lock_members(connection, [slow])
        waiting = take_at_once(books, taker, records[0], hurried=False)

        async def waits() -> bool:
            return bool(await books.pool.fetchval(WAITS))

        await eventually(waits, within=20)
        await asyncio.wait_for(asyncio.gather(*take_at_once(books, taker, records[1])), 10)
        assert await books.effects(quick) == [2]
        assert not waiting[0].done()
    await asyncio.gather(*waiting)
    assert await books.effects(slow) == [1]


async def test_a_bug_in_one_partition_costs_the_other_nothing(books: Books) -> None:
    guilty, innocent = uuid4(), uuid4()
    records = books.write(pain(guilty, 9)), books.write(pain(innocent, 2), partition=1)
    await asyncio.gather(*take_at_once(books, books.taker(), *records))
    assert await books.effects(innocent) == [2]
    assert [(row["state"], row["partition"]) for row in await books.held()] == [("dead", 0)]


async def test_a_position_that_is_lost_costs_the_other_nothing(books: Books) -> None:
    """One lane begins beyond its stored position: it must seek again, alone."""
    innocent = uuid4()
    books.write(pain(uuid4(), 1))
    ahead, other = books.write(pain(uuid4(), 1)), books.write(pain(innocent, 2), partition=1)
    behind, fine = await asyncio.gather(*take_at_once(books, books.taker(), ahead, other), return_exceptions=True)
    assert isinstance(behind, PositionLost)
    assert fine is None
    assert await books.effects(innocent) == [2]
    assert await books.pool.fetchval("select count(*) from effects") == 1


async def test_a_member_whom_somebody_holds_keeps_the_other_partition_for_a_moment_only(books: Books) -> None:
    """The shared transaction is tried once, and who watches sees that it failed."""
    held, free, retries = uuid4(), uuid4(), CHUNK_RETRIES.labels(GROUP)._value
    before = retries.get()
    records = books.write(pain(held, 1)), books.write(pain(free, 2), partition=1)
    async with books.transaction() as connection:
        await lock_members(connection, [held])
        waiting, other = take_at_once(books, books.taker(), *records)
        await other
        assert await books.effects(free) == [2]
        assert not waiting.done()
        assert retries.get() == before + 1
    await waiting
    assert await books.effects(held) == [1]


@pytest.mark.parametrize(("hurried", "shorter"), [(True, "LOCK_PATIENCE"), (False, "SHORT_PATIENCE")])
async def test_who_shares_waits_for_what_somebody_holds_as_long_as_its_hurry_allows(
    books: Books, monkeypatch: pytest.MonkeyPatch, hurried: bool, shorter: str
) -> None:
    for name in ("LOCK_PATIENCE", "SHORT_PATIENCE"):
        monkeypatch.setattr(runtime, name, "50ms" if name == shorter else "60s")
    held, free = uuid4(), uuid4()
    records = books.write(pain(held, 1)), books.write(pain(free, 2), partition=1)
    async with books.transaction() as connection:
        await lock_members(connection, [held])
        waiting, other = take_at_once(books, books.taker(), *records, hurried=hurried)
        await asyncio.wait_for(other, 5)
        assert await books.effects(free) == [2]
    await waiting
    assert await books.effects(held) == [1]


async def test_a_lane_takes_one_chunk_at_a_time(probe: RunningService, publish: Publish) -> None:
    """Given a chunk that waits for its member, when more comes in its partition, then that waits its turn."""
    (intake,) = (one for one in probe.service.intakes if one.subscription.group == GROUP)
    member = uuid4()

    def queued() -> int:
        return sum(lane.waiting for lane in intake.lanes.values())

    async with connected(probe.database_url) as connection:
        async with connection.transaction():
            await lock_members(connection, [member])
            await publish(ACTIVITY, pain(member, 1))
            await eventually(lambda: any(not lane.idle for lane in intake.lanes.values()) and queued() == 0, within=20)
            await publish(ACTIVITY, pain(member, 2))
            await eventually(lambda: queued() == 1, within=20)
        await probe.settled()
        rows = await connection.fetch("select score from effects where member_id = $1 order by effect_id", member)
    assert [row["score"] for row in rows] == [1, 2]
