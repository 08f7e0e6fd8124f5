"""The books of a group, held against chunks and clean-ups that come late: positions only move on, and an identity is
remembered longer than any copy of its event can be under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from shared.arrivals import AHEAD_MAX, READ_AGE_MAX, Arrival, read_arrivals
from shared.clock import wall_now
from shared.consuming import Chunk, PositionLost, Taken, take_chunks
from shared.database import Database, open_database
from shared.events.catalogue import RETENTION_DAYS_MAX, TOPIC_OF
from shared.events.codec import HEADERS, Decoder, encode
from shared.inbox import FORGET, RETENTION_DAYS, find_apart, forget_taken
from shared.member_locks import lock_members
from shared.positions import ensure_positions
from shared.replaying import Reader, drain_queues
from shared.subscriptions import Subscription
from shared.topics import TIMESTAMP_AGE_MAX
from tests.fixtures.eventually import eventually
from tests.shared.delivery.operating import OLD_PAIN, old_pain, upcast_pain
from tests.shared.delivery.probe import ACTIVITY, follow_activity, pain

GROUP = "probe.activity"
SUBSCRIPTION = Subscription(topic=ACTIVITY, group=GROUP, run=follow_activity)
DECODER = Decoder(TOPIC_OF[ACTIVITY])
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
STATES = "select h.state, i.outcome from delivery.held_events h full join delivery.inbox i using (identity)"


@pytest.fixture
async def books(probe_url: str) -> AsyncIterator[Database]:
    pool = await open_database(probe_url, connections=3, application="test")
    yield pool
    await pool.close()


class Logged:
    """A record as it lies in the log."""

    def __init__(self, offset: int, score: int) -> None:
        member = uuid4()
        self.partition, self.offset, self.key = 0, offset, str(member).encode()
        self.value: bytes | None = encode(pain(member, score))
        self.headers = HEADERS
        self.timestamp = int(wall_now().timestamp() * 1000)


def arrivals(*records: Logged, decoder: Decoder = DECODER) -> list[Arrival]:
    now = wall_now()
    return read_arrivals(records, decoder=decoder, group=GROUP, topic=ACTIVITY, now=now, wall=now)


async def take(books: Database, chunk: Chunk, *, now: Callable[[], datetime] = wall_now) -> Taken:
    async def nothing_waits(*_: Any, **__: Any) -> int:
        return 0

    async with books.acquire() as connection, connection.transaction():
        return await take_chunks(
            connection, SUBSCRIPTION, [chunk], service="probe", now=now,
            settle_waiting=nothing_waits,
        )  # fmt: skip


async def position(books: Database) -> tuple[int, int]:
    row = await books.fetchrow("select next_offset, records_read from delivery.positions")
    assert row
    return row["next_offset"], row["records_read"]


async def test_a_chunk_that_comes_late_moves_nothing_back(books: Database) -> None:
    """A process that was stopped before its commit wakes when another has long gone on."""
    records = [Logged(offset, 1) for offset in range(6)]
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
    await take(books, Chunk(0, 0, 6, arrivals(*records)))
    late = await take(books, Chunk(0, 0, 3, arrivals(*records[:3])))
    assert late.counts.read == 0
    assert await position(books) == (6, 6)
    assert await books.fetchval("select count(*) from effects") == 6


async def test_a_chunk_that_begins_after_the_position_is_not_taken(books: Database) -> None:
    with pytest.raises(PositionLost, match="none"):
        await take(books, Chunk(0, 0, 1, arrivals(Logged(0, 1))))
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
    with pytest.raises(PositionLost, match="before"):
        await take(books, Chunk(0, 1, 2, arrivals(Logged(1, 1))))
    assert await position(books) == (0, 0)


async def waits_for_a_lock(books: Database) -> bool:
    return bool(await books.fetchval(WAITING))


async def test_what_a_chunk_decides_is_dated_after_what_it_waited_for(books: Database) -> None:
    """A command holds the member. Its events must not be younger than those that are decided on top of them."""
    record, time = Logged(0, 2), datetime(2026, 3, 2, 12, tzinfo=UTC)
    member = UUID(bytes.decode(record.key))
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
        async with connection.transaction():
            await lock_members(connection, [member])
            chunk = asyncio.create_task(take(books, Chunk(0, 0, 1, arrivals(record)), now=lambda: time))
            await eventually(partial(waits_for_a_lock, books))
            time += timedelta(seconds=5)
    await chunk
    (value,) = [row["value"] for row in await books.fetch("select value from delivery.outbox")]
    assert orjson.loads(value)["time"] == "2026-03-02T12:00:05Z"


async def test_what_is_held_unread_and_read_once_more_since_it_can_be_is_not_lost(books: Database) -> None:
    """Its position was moved back after the code was mended: the replay must not take it for a copy of itself."""
    member = uuid4()
    record, mended = Logged(0, 2), Decoder(TOPIC_OF[ACTIVITY], upcasters={OLD_PAIN: upcast_pain})
    record.key, record.value = str(member).encode(), old_pain(member, 2)
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
    await take(books, Chunk(0, 0, 1, arrivals(record)))
    await books.execute("update delivery.positions set next_offset = 0")
    await take(books, Chunk(0, 0, 1, arrivals(record, decoder=mended)))
    assert [tuple(row) for row in await books.fetch(STATES)] == [("dead", "dead")], "one row, and the inbox agrees"

    async with books.acquire() as connection, connection.transaction():
        await lock_members(connection, [member])
        reader = Reader(SUBSCRIPTION, mended)
        (drained,), _ = await drain_queues(
            connection, reader, [member], service="probe", now=wall_now(), replay_head=True
        )
    assert drained.taken == 1
    assert await books.fetchval("select score from effects") == 2


def test_an_inbox_remembers_longer_than_a_copy_can_be_under_way() -> None:
    memory = timedelta(days=RETENTION_DAYS)
    assert memory > READ_AGE_MAX + AHEAD_MAX, "what is read is younger than what is forgotten"
    assert memory > TIMESTAMP_AGE_MAX > timedelta(days=RETENTION_DAYS_MAX)


async def test_only_what_is_past_retention_and_not_held_is_forgotten(books: Database) -> None:
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
    records = [Logged(0, 1), Logged(1, 1), Logged(2, 8)]
    await take(books, Chunk(0, 0, 3, arrivals(*records)))
    age = "update delivery.inbox set taken_at = clock_timestamp() - make_interval(days => $1)"
    async with books.acquire() as connection:
        await connection.execute(age, RETENTION_DAYS - 1)
        assert await forget_taken(connection, await find_apart(connection)) == 0
        await connection.execute(age, RETENTION_DAYS + 1)
        assert await forget_taken(connection, await find_apart(connection)) == 2
        assert await connection.fetchval("select outcome from delivery.inbox") == "waiting"


@pytest.mark.parametrize("ahead", ["the database's clock", "ours"])
async def test_a_clock_that_is_weeks_ahead_forgets_nothing(
    books: Database, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    """What is forgotten once takes effect again when it is repeated, long after the clock is right."""
    far = timedelta(days=RETENTION_DAYS + 1)
    now = wall_now()
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
        await take(books, Chunk(0, 0, 1, arrivals(Logged(0, 1))))
        if ahead == "ours":
            monkeypatch.setattr("shared.inbox.wall_now", lambda: now + far)
        else:  # seen from the other side: what it has just written is weeks ago by now, and we say that it is not
            await connection.execute("update delivery.inbox set taken_at = $1", now - far)
            monkeypatch.setattr("shared.inbox.wall_now", lambda: now - far)
        assert await forget_taken(connection, b"") == 0


async def test_forgetting_reads_what_is_old_and_nothing_else(books: Database) -> None:
    """An inbox of many weeks is not read from end to end for the few rows that are old, or for none."""
    fill = """
    insert into delivery.inbox (identity, digest, taken_at)
    select uuid_send(gen_random_uuid()), '', clock_timestamp() - make_interval(days => $1)
    from generate_series(1, $2::int)
    """
    hold = """
    insert into delivery.held_events
        (consumer_group, topic, partition, record_offset, blocks, state, reason, identity, headers, record_at)
    select 'g', 't', 0, n, false, 'dead', 'bug', uuid_send(gen_random_uuid()), '[]', now() from generate_series(1, $1) n
    """
    async with books.acquire() as connection:
        await connection.execute(hold, 2_000)
        await connection.execute("analyze delivery.held_events")
        await connection.execute(fill, 0, 5_000)
        await connection.execute("analyze delivery.inbox")
        for old in (0, 3):
            await connection.execute(fill, RETENTION_DAYS + 1, old)
            apart = b"".join(uuid4().bytes for _ in range(100))
            rows = await connection.fetch(
                f"explain (analyze, timing off) {FORGET}", RETENTION_DAYS, 5_000, apart, wall_now()
            )
            plan = "\n".join(row[0] for row in rows)
            assert "Index Cond: (taken_at <" in plan, plan
            assert "Index Cond: (identity = ANY" in plan, plan
            assert "Rows Removed" not in plan, plan
        assert await connection.fetchval("select count(*) from delivery.inbox") == 5_000


async def test_of_a_chunk_of_which_another_took_the_beginning_the_rest_is_taken(books: Database) -> None:
    records = [Logged(offset, 1) for offset in range(6)]
    async with books.acquire() as connection:
        await ensure_positions(connection, GROUP, ACTIVITY, {0: 0})
    await take(books, Chunk(0, 0, 3, arrivals(*records[:3])))
    late = await take(books, Chunk(0, 0, 6, arrivals(*records)))
    assert late.counts.new == late.counts.read == 3
    assert await position(books) == (6, 6)
    assert await books.fetchval("select count(*) from effects") == 6
