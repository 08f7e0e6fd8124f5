"""What lies in a topic, for journeys that look at what was published."""

from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from shared.topics import topic_name
from tests.fixtures.servers import RunningServers


async def read_topic(servers: RunningServers, namespace: str, topic: str) -> list[dict[str, Any]]:
    """Every event of a topic up to its end of now, as JSON, in log order per partition."""
    consumer = AIOKafkaConsumer(
        topic_name(namespace, topic), bootstrap_servers=servers.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: list[dict[str, Any]] = []
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, []):
                    found.append(orjson.loads(record.value))
        return found
    finally:
        await consumer.stop()
