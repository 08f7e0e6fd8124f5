"""What lies in the log: for each partition, the inbox identities that its records have in a consumer group."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.arrivals import read_loose_name, record_time
from shared.clock import monotonic
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder, Undecodable
from shared.inbox import coordinates_identity, inbox_identity
from shared.tolerant_records import tolerate_header_names
from shared.topics import topic_name

SILENCE_S = 30.0
"""A broker that gives nothing for so long although the end is not reached is an error."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset that the log still holds, and the offset after its last record."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    offset: int
    timestamp: int
    """As the record has it, in ms."""
    written_at: datetime
    identity: tuple[str, str] | None
    """(source, id), or what a safety group takes it under where it is no valid event; None where there is neither."""

    def inbox_keys(self, group: str, topic: str, partition: int) -> tuple[bytes, ...]:
        """Keys of which a group's inbox must hold one: the event's own, or the record's coordinates where the record
        was at fault."""
        coordinates = coordinates_identity(group, topic, partition, self.offset, self.timestamp)
        return (coordinates,) if self.identity is None else (inbox_identity(group, *self.identity), coordinates)


class LogSilent(Exception):
    """The broker stopped answering in the middle of a partition."""


class LogReader:
    """Reads topics from their beginning without belonging to any group."""

    def __init__(self, bootstrap: str, namespace: str, *, security: Mapping[str, Any] | None = None) -> None:
        tolerate_header_names()
        self._kafka = {"bootstrap_servers": bootstrap, **(security or {})}
        self._namespace = namespace

    async def bounds(self, *topics: str) -> dict[str, dict[int, Bounds]]:
        """Where each partition of these topics begins and ends at this moment."""
        names = {topic: topic_name(self._namespace, topic) for topic in topics}
        consumer = AIOKafkaConsumer(
            *names.values(), **self._kafka, fetch_max_wait_ms=50, isolation_level="read_committed"
        )
        await consumer.start()
        try:
            places = {
                topic: [TopicPartition(name, p) for p in sorted(consumer.partitions_for_topic(name) or ())]
                for topic, name in names.items()
            }
            every = [place for several in places.values() for place in several]
            first, end = await consumer.beginning_offsets(every), await consumer.end_offsets(every)
            return {
                topic: {p.partition: Bounds(first[p], end[p]) for p in several} for topic, several in places.items()
            }
        finally:
            await consumer.stop()

    async def records(
        self, topic: str, partition: int, *, until: int, start: int | None = None
    ) -> AsyncGenerator[Sequence[LoggedRecord]]:
        """Batches of a partition's records below the offset `until`, from `start` or from the first that is left."""
        place = TopicPartition(topic_name(self._namespace, topic), partition)
        consumer = AIOKafkaConsumer(**self._kafka, fetch_max_wait_ms=50, isolation_level="read_committed")
        await consumer.start()
        try:
            consumer.assign([place])
            if start is None:
                await consumer.seek_to_beginning(place)
            else:
                consumer.seek(place, start)
            decoder, heard = Decoder(TOPIC_OF[topic]), monotonic()
            while await consumer.position(place) < until:
                batch = (await consumer.getmany(place, timeout_ms=100, max_records=2000)).get(place, [])
                if batch:
                    heard = monotonic()
                    yield [_read(record, decoder) for record in batch if record.offset < until]
                elif monotonic() - heard > SILENCE_S:
                    raise LogSilent(f"{topic} {partition}")
        finally:
            await consumer.stop()

    async def holds(self, topic: str, partition: int, *, start: int, until: int) -> bool:
        """Whether any record lies between two offsets: what was rolled back, and the markers of transactions, are
        none."""
        if start >= until:
            return False
        async with aclosing(self.records(topic, partition, start=start, until=until)) as batches:
            async for batch in batches:
                if batch:
                    return True
        return False

    async def count(self, topic: str, partition: int, *, start: int, until: int) -> int:
        """How many records lie between two offsets."""
        found = 0
        async for batch in self.records(topic, partition, start=start, until=until):
            found += len(batch)
        return found


def _read(record: ConsumerRecord, decoder: Decoder) -> LoggedRecord:
    written_at = record_time(record)
    try:
        event = decoder.decode(record.value, record.headers)
    except Undecodable:
        return LoggedRecord(record.offset, record.timestamp, written_at, read_loose_name(record))
    return LoggedRecord(record.offset, record.timestamp, written_at, (event.source, event.id))
