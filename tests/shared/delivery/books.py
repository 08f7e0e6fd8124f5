"""The books of the probe's groups without a broker: records as a test writes them, taken as the runtime takes them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
from aiokafka import TopicPartition

from shared.arrivals import read_arrivals
from shared.clock import WallClock, wall_now
from shared.consuming import Chunk, Taken, take_chunks
from shared.database import Connection, Database
from shared.events import CloudEvent
from shared.events.codec import HEADERS, encode
from shared.lanes import Lane, RawChunk
from shared.positions import ensure_positions
from shared.replaying import Reader, settle_waiting
from shared.subscriptions import Subscription
from shared.taking import ChunkTaker
from tests.fixtures.eventually import eventually
from tests.shared.delivery.operating import readers
from tests.shared.delivery.probe import ACTIVITY, MEMBERS

GROUP, SAFETY, JOINING = "probe.activity", "probe.safety", "probe.members"
PARTITIONS = 2
WAITING_FOR_A_LOCK = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes | None]] = HEADERS


@dataclass
class Books:
    """A log of two partitions for each topic, and the groups that read it."""

    pool: Database
    readers: Mapping[str, Reader] = field(default_factory=readers)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    bases: dict[tuple[str, int], int] = field(default_factory=dict)

    async def open(self) -> None:
        async with self.pool.acquire() as connection:
            for group, topic in ((GROUP, ACTIVITY), (SAFETY, ACTIVITY), (JOINING, MEMBERS)):
                await ensure_positions(connection, group, topic, dict.fromkeys(range(PARTITIONS), 0))

    def subscription(self, group: str) -> Subscription:
        return self.readers[group].subscription

    def write(self, event: CloudEvent, *, partition: int = 0, key: UUID | None = None, topic: str = ACTIVITY) -> Record:
        """Append an event to the log; under the key of another member if one is given."""
        return self.write_raw(encode(event), key=key or event.subject, partition=partition, topic=topic)

    def write_raw(self, value: bytes, *, key: UUID, partition: int = 0, topic: str = ACTIVITY) -> Record:
        offset = self.ends.get((topic, partition), 0)
        self.ends[topic, partition] = offset + 1
        return Record(partition, offset, str(key).encode(), value, int(wall_now().timestamp() * 1000))

    async def take_in(
        self, connection: Connection, *records: Record, group: str = GROUP, isolated: bool = False
    ) -> Taken:
        """Take these records of one partition as a chunk, in the caller's transaction."""
        reader, now = self.readers[group], wall_now()
        subscription, place = reader.subscription, (group, records[0].partition)
        chunk = Chunk(
            records[0].partition,
            self.bases.get(place, 0),
            records[-1].offset + 1,
            read_arrivals(records, decoder=reader.decoder, group=group, topic=subscription.topic, now=now, wall=now),
        )  # fmt: skip
        taken = await take_chunks(
            connection, subscription, [chunk], service="probe", now=wall_now,
            settle_waiting=self.settle, isolated=isolated,
        )  # fmt: skip
        self.bases[place] = chunk.end
        return taken

    async def take(self, *records: Record, group: str = GROUP, isolated: bool = False) -> Taken:
        async with self.transaction() as connection:
            return await self.take_in(connection, *records, group=group, isolated=isolated)

    def taker(self, group: str = GROUP, **more: Any) -> ChunkTaker:
        """As a running service has one."""
        return ChunkTaker(
            reader=self.readers[group], service="probe", database=self.pool, clock=WallClock(),
            settle_waiting=self.settle, committed=lambda *_: None, **more,
        )  # fmt: skip

    async def take_as_the_runtime(self, *records: Record, group: str = GROUP) -> None:
        """As a running service takes a chunk: again and again until it is taken."""
        await self.take_side_by_side(records, group=group)

    async def take_side_by_side(self, *chunks: Sequence[Record], group: str = GROUP) -> None:
        """As a running service takes what comes in several partitions at once."""
        taker, taking = self.taker(group), []
        for records in chunks:
            place = (group, records[0].partition)
            partition = TopicPartition(self.subscription(group).topic, records[0].partition)
            lane = Lane(partition, start=self.bases.get(place, 0), cautious=False)
            raw = RawChunk(partition.partition, lane.end, records[-1].offset + 1, records)
            taking.append(taker.take(lane, raw, counted=False, partitions=PARTITIONS))
            self.bases[place] = raw.end
        await asyncio.gather(*taking)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection

    async def settle(
        self, connection: Connection, member_ids: Sequence[UUID], now: datetime, *, with_care: bool = False
    ) -> int:
        settle = partial(settle_waiting, readers=self.readers, service="probe")
        return await settle(connection, member_ids, now, with_care=with_care)

    # -- what the books say

    async def effects(self, member_id: UUID) -> list[int]:
        rows = await self.pool.fetch("select score from effects where member_id = $1 order by effect_id", member_id)
        return [row["score"] for row in rows]

    async def held(self, group: str = GROUP) -> list[asyncpg.Record]:
        return await self.pool.fetch(
            "select * from delivery.held_events where consumer_group = $1 order by held_id", group
        )

    async def published(self) -> list[dict[str, Any]]:
        """What lies in the outbox, in the order in which the relay would hand it over."""
        rows = await self.pool.fetch("select value from delivery.outbox order by outbox_id")
        return [orjson.loads(row["value"]) for row in rows]

    async def fix(self) -> None:
        """The handler no longer raises at a 9."""
        await self.pool.execute("insert into switches values ('fixed')")

    async def somebody_waits(self, many: int = 1) -> None:
        """Return when so many connections wait for a lock."""

        async def waits() -> bool:
            return bool(await self.pool.fetchval(WAITING_FOR_A_LOCK) == many)

        await eventually(waits, within=20, what=f"{many} wait for a lock")


async def take_one(taker: ChunkTaker, record: Record, *, counted: bool = False, partitions: int = PARTITIONS) -> None:
    """Take a record as a chunk of its own, at the place where it lies."""
    lane = Lane(TopicPartition(ACTIVITY, record.partition), start=record.offset, cautious=counted)
    raw = RawChunk(record.partition, record.offset, record.offset + 1, [cast(Any, record)])
    await taker.take(lane, raw, counted=counted, partitions=partitions)
