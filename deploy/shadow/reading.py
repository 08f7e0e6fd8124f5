"""The log from its beginning to where it ends now, several topics at once, about as it came to be."""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from deploy.reconciliation.log import SILENCE_S, Bounds, LogReader, LogSilent
from shared.clock import monotonic
from shared.lanes import RawChunk
from shared.tolerant_records import tolerate_header_names
from shared.topics import topic_name

CHUNK = 500
APART_MS = 60_000
"""Of two partitions, one is read at most so much of the log's time before the other, so that what one topic says of a
member is known to the other about as early as it was. What comes early all the same waits, as it does live."""
AHEAD = 4_000
"""Records read ahead of a partition."""


@dataclass
class Feed:
    """One partition, read up to `bounds.end`."""

    topic: str
    partition: int
    bounds: Bounds
    base: int
    records: deque[ConsumerRecord] = field(default_factory=deque)
    ended: bool = False

    @property
    def done(self) -> bool:
        return self.ended and not self.records

    def take(self, until_ms: float) -> RawChunk:
        """The next records, at least one, none but the first later than `until_ms`."""
        taken = [self.records.popleft()]
        while self.records and len(taken) < CHUNK and self.records[0].timestamp <= until_ms:
            taken.append(self.records.popleft())
        chunk = RawChunk(self.partition, self.base, taken[-1].offset + 1, taken)
        self.base = chunk.end
        return chunk


class History:
    """Reads without belonging to any consumer group, so that nobody else notices."""

    def __init__(self, bootstrap: str, namespace: str, *, security: Mapping[str, Any] | None = None) -> None:
        tolerate_header_names()
        self._kafka = {"bootstrap_servers": bootstrap, **(security or {})}
        self._namespace = namespace
        self._reader = LogReader(bootstrap, namespace, security=security)

    async def bounds(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, Bounds]]:
        return await self._reader.bounds(*topics)

    async def chunks(self, bounds: Mapping[str, Mapping[int, Bounds]]) -> AsyncIterator[tuple[str, int, RawChunk]]:
        """(topic, partition, records), each partition in its order. LogSilent where the broker stops answering."""
        feeds = {
            TopicPartition(topic_name(self._namespace, topic), number): Feed(topic, number, of_it, of_it.first)
            for topic, partitions in bounds.items()
            for number, of_it in partitions.items()
            if of_it.end > of_it.first
        }
        if not feeds:
            return
        consumer = AIOKafkaConsumer(**self._kafka, fetch_max_wait_ms=50, isolation_level="read_committed")
        await consumer.start()
        try:
            consumer.assign(list(feeds))
            for place, feed in feeds.items():
                consumer.seek(place, feed.base)
            while True:
                await _fill(consumer, feeds)
                open_feeds = sorted((f for f in feeds.values() if not f.done), key=lambda f: f.records[0].timestamp)
                if not open_feeds:
                    return
                first, others = open_feeds[0], open_feeds[1:]
                until = others[0].records[0].timestamp + APART_MS if others else float("inf")
                yield first.topic, first.partition, first.take(until)
        finally:
            await consumer.stop()


async def _fill(consumer: AIOKafkaConsumer, feeds: Mapping[TopicPartition, Feed]) -> None:
    """Read until the next record of every partition is known, or that there is none."""
    heard = monotonic()
    while waiting := [place for place, feed in feeds.items() if not feed.records and not feed.ended]:
        for place, feed in feeds.items():
            (consumer.pause if feed.ended or len(feed.records) > AHEAD else consumer.resume)(place)
        for place, records in (await consumer.getmany(timeout_ms=200, max_records=AHEAD)).items():
            heard = monotonic()
            feeds[place].records.extend(record for record in records if record.offset < feeds[place].bounds.end)
        for place, feed in feeds.items():
            # Past the markers of transactions, too, which are no records.
            feed.ended = feed.ended or await consumer.position(place) >= feed.bounds.end
        if monotonic() - heard > SILENCE_S:
            raise LogSilent(f"{waiting[0].topic} {waiting[0].partition}")
