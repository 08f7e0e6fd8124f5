"""How far behind the log this service's consumer groups are, and since when, whichever process owns which partition."""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from shared.database import Connection
from shared.kafka import client_options, is_over, load_spans
from shared.settings import ServiceSettings
from shared.subscriptions import Subscription
from shared.topics import topic_name

NEXT_OFFSETS = "select consumer_group, topic, partition, next_offset from delivery.positions"
Place: TypeAlias = tuple[str, str, int]
"""A consumer group in a partition of a topic."""
Positions: TypeAlias = dict[Place, int]
"""The next offset by place."""


async def load_all_positions(connection: Connection) -> Positions:
    rows = await connection.fetch(NEXT_OFFSETS)
    return {(row["consumer_group"], row["topic"], row["partition"]): row["next_offset"] for row in rows}


MARKERS_MAX = 3
"""A lag of so few offsets may hold no record at all."""
READ_S = 2.0
CLOSE_S = 3.0
TOPICS_MS = 5_000
"""How soon a topic that was made anew is seen."""
ENDS_MAX = 1_000
"""So many ends of a partition are remembered."""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a group has not taken of a partition."""

    position: int
    end: int | None
    """None where nobody tells: there may be any number, or none."""

    @property
    def records(self) -> int:
        """At most: offsets that hold no record count. As if there were none where nobody tells."""
        return 0 if self.end is None else self.end - self.position


class Waits:
    """For how long what is unread has been in the log, as far as one process has seen."""

    def __init__(self) -> None:
        self._ends: dict[Place, deque[tuple[float, int]]] = {}
        """Times at which somebody looked, and where the log ended then."""

    def look(self, unread: Mapping[Place, Unread], *, at: float) -> dict[Place, float]:
        """Seconds for which the oldest record of each of these places has waited, at least; or for which nobody has
        told whether there is one. `at`: machine time."""
        self._ends = {place: self._ends.get(place, deque()) for place in unread}
        for place, ends in self._ends.items():
            position, end = unread[place].position, unread[place].end
            if end is not None and ends and end < ends[-1][1]:
                ends.clear()  # another log
            while ends and ends[0][1] <= position:
                ends.popleft()
            if end is None:
                end = ends[-1][1] if ends else position + 1  # one may have come just now
            if not ends or end > ends[-1][1]:
                if len(ends) >= ENDS_MAX:
                    ends.pop()
                ends.append((at, end))
        return {place: at - ends[0][0] for place, ends in self._ends.items()}


@dataclass(slots=True)
class Looked:
    """What lies behind a position."""

    start: int
    end: int
    empty_to: int
    """No record lies between the start and this offset."""
    found: bool = False
    """Whether one lies there."""


class LogEnds:
    """Asks for the ends of topics on a connection of its own: a consumer's waits behind its long poll."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._looked: dict[tuple[str, TopicPartition], Looked] = {}
        """What a look at each partition from where a group stands has found."""

    async def find_unread(
        self, positions: Positions, subscriptions: list[Subscription], *, at_once: bool = True
    ) -> dict[Place, Unread]:
        """Where something lies between these positions and the end. KafkaError where no broker answers, a topic is not
        there or nobody leads a partition; if not `at_once`, only where that holds for all, and what little may be no
        record is only looked at where it was there last time."""
        if not subscriptions:
            return {}
        names = {s.topic: topic_name(self._settings.namespace, s.topic) for s in subscriptions}
        consumer = await self._open(sorted(names.values()))
        partitions = {
            topic: [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]
            for topic, name in names.items()
        }
        spans = await load_spans(consumer, [one for several in partitions.values() for one in several])
        untold = [topic for topic, found in partitions.items() if not found or not spans.keys() >= set(found)]
        if untold and (at_once or not spans):
            raise UnknownTopicOrPartitionError(untold)
        unread: dict[Place, Unread] = {}
        for s in subscriptions:
            for partition in partitions[s.topic] or [TopicPartition(names[s.topic], 0)]:
                place = s.group, s.topic, partition.partition
                start = positions.get(place, 0)
                if partition not in spans:
                    unread[place] = Unread(start, None)
                    continue
                span = start, spans[partition][1]
                if start < span[1] and await self._holds_record(consumer, (s.group, partition), span, at_once=at_once):
                    unread[place] = Unread(*span)
        return unread

    async def _holds_record(
        self, consumer: AIOKafkaConsumer, place: tuple[str, TopicPartition], span: tuple[int, int], *, at_once: bool
    ) -> bool:
        """Whether a record is among these offsets: the marker that ends a transaction is none, nor is what was aborted.
        Looked at only where few are left, or where nothing has moved since it was asked for last."""
        (start, end), last = span, self._looked.get(place)
        stands_still = last is not None and (last.start, last.end) == (start, end)
        looked = self._looked[place] = Looked(start, end, start)
        if last is not None and last.start <= start <= last.empty_to and last.end <= end:
            looked.empty_to, looked.found = last.empty_to, last.found
        if not looked.found and looked.empty_to < end and (stands_still or (at_once and end - start <= MARKERS_MAX)):
            await self._look(consumer, place[1], looked)
        return looked.found or looked.empty_to < end

    async def _look(self, consumer: AIOKafkaConsumer, partition: TopicPartition, looked: Looked) -> None:
        """For the first record, for a while; the next look goes on where this one ended."""
        async with self._reading:
            consumer.seek(partition, looked.empty_to)
            consumer.resume(partition)
            try:
                async with asyncio.timeout(READ_S):
                    while looked.empty_to < looked.end and not looked.found:
                        found = (await consumer.getmany(partition, timeout_ms=100, max_records=1)).get(partition)
                        looked.found = bool(found)
                        looked.empty_to = found[0].offset if found else await consumer.position(partition)
            except TimeoutError:
                pass
            finally:
                consumer.pause(partition)

    async def _open(self, topics: list[str]) -> AIOKafkaConsumer:
        async with self._opening:
            if is_over(self._consumer):
                await self.close()  # whoever watches over the process would not know: it reads on
                self._consumer = None
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    *topics,
                    isolation_level="read_committed",
                    auto_offset_reset="earliest",  # where a group stands before the log begins
                    metadata_max_age_ms=TOPICS_MS,
                    **client_options(self._settings),
                )
                try:
                    await consumer.start()
                except BaseException:
                    with suppress(Exception):
                        await consumer.stop()
                    raise
                for partition in consumer.assignment():
                    consumer.pause(partition)  # it reads nothing
                self._consumer = consumer
            return self._consumer

    async def close(self) -> None:
        if self._consumer is not None:
            with suppress(Exception):
                await asyncio.wait_for(self._consumer.stop(), CLOSE_S)
