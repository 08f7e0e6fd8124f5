"""What lies in the log at the end of a run."""

import asyncio
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.clock import monotonic
from shared.events.catalogue import TOPIC_OF, TOPICS
from shared.events.codec import Decoder, Undecodable
from shared.events.envelope import CloudEvent
from shared.topics import topic_name

SILENCE_S = 30.0


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    event: CloudEvent | None
    """None where it cannot be read."""


Log = dict[str, list[Record]]
"""By topic, each partition in its order."""


async def read_log(bootstrap: str, namespace: str) -> Log:
    log: Log = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50, isolation_level="read_committed")
    await consumer.start()
    try:
        for topic in TOPICS:
            log[topic.name] = await _read_topic(consumer, topic.name, topic_name(namespace, topic.name))
    finally:
        await consumer.stop()
    return log


async def _read_topic(consumer: AIOKafkaConsumer, topic: str, name: str) -> list[Record]:
    partitions = await _partitions(consumer, name)
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    decoder, found, heard = Decoder(TOPIC_OF[topic]), list[Record](), monotonic()
    for partition in partitions:
        while await consumer.position(partition) < ends[partition]:
            batch = (await consumer.getmany(partition, timeout_ms=200)).get(partition, [])
            if batch:
                heard = monotonic()
            elif monotonic() - heard > SILENCE_S:
                raise TimeoutError(f"{name}: the log stays silent")
            for record in batch:
                try:
                    event = decoder.decode(record.value, record.headers)
                except Undecodable:
                    event = None
                found.append(Record(topic, record.partition, record.offset, record.key, record.value, event))
    return found


async def _partitions(consumer: AIOKafkaConsumer, name: str) -> list[TopicPartition]:
    async with asyncio.timeout(SILENCE_S):
        while True:
            consumer._client.add_topic(name)
            await consumer._client.force_metadata_update()
            if numbers := consumer.partitions_for_topic(name):
                return [TopicPartition(name, number) for number in sorted(numbers)]
