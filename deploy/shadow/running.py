"""Building a shadow: the same handlers through the same transaction, and nothing else of a service.

No relay hands over what is decided, no timer runs, nothing is sent: only rows in the shadow's own database. Handlers
are told the time of the history that they read, which is the latest that any event so far has had. Time is not judged
again, because history is old: what the live service refused for its time is refused here, too, and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from aiokafka import TopicPartition

from deploy.shadow.reading import History
from shared.arrivals import TIME_AHEAD, TOO_OLD, Arrival, identity_of_place, read_arrivals
from shared.database import Connection, Database
from shared.dead_letters import Bench, go_on
from shared.held_events import LONG_QUEUE
from shared.lanes import Lane, RawChunk
from shared.positions import ensure_positions
from shared.replaying import QueueKey, Reader, settle_waiting
from shared.taking import ChunkTaker

BY_TIME = {fault.reason: fault for fault in (TIME_AHEAD, TOO_OLD)}
REFUSED_FOR_TIME = """
select identity, detail from delivery.inbox where outcome in ('dead', 'discarded') and detail = any($1::text[])
"""
LONG_QUEUES = "select member_id, consumer_group, topic from delivery.held_events where reason = $1 and blocks"


class HistoryClock:
    """The latest time that any event so far has had."""

    def __init__(self) -> None:
        self._latest = datetime.fromtimestamp(0, UTC)

    def now(self) -> datetime:
        return self._latest

    def pass_to(self, time: datetime) -> None:
        self._latest = max(self._latest, time)


@dataclass(kw_only=True)
class ShadowTaker(ChunkTaker):
    """Takes the records of one consumer group into the shadow."""

    history: HistoryClock
    refused: Mapping[bytes, str]
    """What the live service refused for its time: the identity of the record's place, and the reason."""
    arrivals: list[Arrival] = field(default_factory=list)
    """What was read since somebody looked."""

    def _read(self, raw: RawChunk, *, now: datetime, wall: datetime) -> list[Arrival]:
        group, topic = self.subscription.group, self.subscription.topic
        arrivals = read_arrivals(
            raw.records, decoder=self.reader.decoder, group=group, topic=topic, now=now, wall=wall, judges_time=False
        )
        for arrival in arrivals:
            place = identity_of_place(arrival.record, group=group, topic=topic)
            if arrival.fault is None and place in self.refused:
                arrival.fault, arrival.identity = BY_TIME[self.refused[place]], place
            if arrival.event is not None and arrival.fault is None:
                self.history.pass_to(arrival.event.time)
        self.arrivals += arrivals
        return arrivals


@dataclass(kw_only=True)
class Shadow:
    """One run."""

    service: str
    database: Database
    readers: Mapping[str, Reader]
    history: History
    refused: Mapping[bytes, str]
    progress: Callable[[int, int], None] = lambda done, total: None
    """Told how many of how many records were taken."""
    clock: HistoryClock = field(default_factory=HistoryClock)
    _lanes: dict[tuple[str, int], Lane] = field(default_factory=dict)
    _done: int = 0

    async def run(self) -> None:
        """Read everything that the log holds now. Raises KafkaError, LogSilent or asyncpg errors."""
        topics = list(dict.fromkeys(reader.subscription.topic for reader in self.readers.values()))
        bounds = await self.history.bounds(topics)
        takers: dict[str, list[ShadowTaker]] = {topic: [] for topic in topics}
        for reader in self.readers.values():
            takers[reader.subscription.topic].append(self._taker(reader))
        total = 0
        async with self.database.acquire(timeout=30) as connection:
            for group, reader in self.readers.items():
                starts = {number: b.first for number, b in bounds[reader.subscription.topic].items()}
                await ensure_positions(connection, group, reader.subscription.topic, starts)
                total += sum(b.end - b.first for b in bounds[reader.subscription.topic].values())
        async for topic, partition, chunk in self.history.chunks(bounds):
            for taker in takers[topic]:
                await self._take(taker, partition, chunk, partitions=len(bounds[topic]))
                self._done += len(chunk.records)
                self.progress(self._done, total)
        await self._take_long_queues()
        self.progress(total, total)

    def _taker(self, reader: Reader) -> ShadowTaker:
        return ShadowTaker(
            reader=reader,
            service=self.service,
            database=self.database,
            clock=self.clock,
            settle_waiting=partial(settle_waiting, readers=self.readers, service=self.service),
            committed=lambda *_: None,
            history=self.clock,
            refused=self.refused,
        )

    async def _take(self, taker: ShadowTaker, partition: int, chunk: RawChunk, *, partitions: int) -> None:
        group, topic = taker.subscription.group, taker.subscription.topic
        place = TopicPartition(topic, partition)
        lane = self._lanes.setdefault((group, partition), Lane(place, start=chunk.base, cautious=False))
        await taker.take(lane, chunk, counted=False, partitions=partitions)
        places = partial(identity_of_place, group=group, topic=topic)
        rows = {(group, arrival.identity, places(arrival.record)) for arrival in taker.arrivals}
        taker.arrivals.clear()
        async with self.database.acquire(timeout=30) as connection:
            await connection.copy_records_to_table("shadow_read", records=rows, schema_name="public")

    async def _take_long_queues(self) -> None:
        """What housekeeping does in a service: the rest of queues that were too long for one transaction."""
        while True:
            async with self.database.acquire(timeout=30) as connection:
                rows = await connection.fetch(LONG_QUEUES, LONG_QUEUE)
                if not rows:
                    return
                for row in rows:
                    queue: QueueKey = (row["member_id"], row["consumer_group"], row["topic"])
                    bench = Bench(readers=self.readers, service=self.service, now=self.clock.now())
                    async with connection.transaction():
                        await go_on(connection, queue, bench)


async def load_refused(live: Connection) -> dict[bytes, str]:
    """What the live service refused for its time and nobody has overruled since."""
    rows = await live.fetch(REFUSED_FOR_TIME, list(BY_TIME))
    return {row["identity"]: row["detail"] for row in rows}
