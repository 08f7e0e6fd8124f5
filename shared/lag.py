"""How far behind the log this service's consumer groups are, whichever process owns which partition."""

import asyncio
from contextlib import suppress
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.database import Connection
from shared.kafka import client_options
from shared.settings import ServiceSettings
from shared.subscriptions import Subscription
from shared.topics import topic_name

NEXT_OFFSETS = "select consumer_group, topic, partition, next_offset from delivery.positions"
Positions: TypeAlias = dict[tuple[str, str, int], int]
"""The next offset by consumer group, topic and partition."""


async def load_all_positions(connection: Connection) -> Positions:
    rows = await connection.fetch(NEXT_OFFSETS)
    return {(row["consumer_group"], row["topic"], row["partition"]): row["next_offset"] for row in rows}


MARKERS_MAX = 3
"""A lag of so few offsets may hold no record at all."""
READ_S = 2.0


class LogEnds:
    """Asks for the ends of topics on a connection of its own: a consumer's waits behind its long poll."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._has_records: set[tuple[TopicPartition, int, int]] = set()
        """What was looked at last, and held a record: asked for again and again while it is behind."""

    async def behind(self, positions: Positions, subscriptions: list[Subscription]) -> int:
        """Records between these positions and the end. KafkaError where no broker answers."""
        if not subscriptions:
            return 0
        names = {s.topic: topic_name(self._settings.namespace, s.topic) for s in subscriptions}
        consumer = await self._open(sorted(names.values()))
        partitions = {
            topic: [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]
            for topic, name in names.items()
        }
        ends = await consumer.end_offsets([one for several in partitions.values() for one in several])
        behind = 0
        for s in subscriptions:
            for partition in partitions[s.topic]:
                position = positions.get((s.group, s.topic, partition.partition), 0)
                if position < ends[partition]:
                    behind += ends[partition] - await self._pass_markers(consumer, partition, position, ends[partition])
        return behind

    async def _pass_markers(self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int) -> int:
        """Where the first record at or after `start` lies: the marker that ends a transaction is none. Looked at only
        close to the end, where it can be all that is left."""
        if end - start > MARKERS_MAX or (partition, start, end) in self._has_records:
            return start
        async with self._reading:
            consumer.seek(partition, start)
            consumer.resume(partition)
            try:
                async with asyncio.timeout(READ_S):
                    while await consumer.position(partition) < end:
                        if (await consumer.getmany(partition, timeout_ms=100, max_records=1)).get(partition):
                            self._has_records = {(partition, start, end)}
                            return start
            except TimeoutError:
                return start
            finally:
                consumer.pause(partition)
        return end

    async def _open(self, topics: list[str]) -> AIOKafkaConsumer:
        async with self._opening:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(*topics, isolation_level="read_committed", **client_options(self._settings))
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
                await self._consumer.stop()
