"""How every part of a service reaches Kafka: addresses, security, and which partition a member's events go to."""

from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from shared.settings import ServiceSettings
from shared.topics import kafka_security

MEMO_MAX = 500_000
"""Members whose hash is remembered: the library's murmur2 is pure Python and costs more than the rest of a send."""


def client_options(settings: ServiceSettings) -> dict[str, Any]:
    """Connection options that aiokafka's consumer, producer and admin client share."""
    return {"bootstrap_servers": settings.kafka_bootstrap, **kafka_security(settings)}


def new_producer(settings: ServiceSettings) -> AIOKafkaProducer:
    """A producer that waits for all replicas and never writes a batch twice by its own retries."""
    return AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        max_batch_size=512 * 1024,
        max_request_size=2 * 1024 * 1024,
        request_timeout_ms=15_000,
    )


class Partitioner:
    """Kafka's default partitioner for keys (murmur2), remembered per member."""

    def __init__(self) -> None:
        self._hashes: dict[UUID, int] = {}

    def partition(self, member_id: UUID, partitions: int) -> int:
        value = self._hashes.get(member_id)
        if value is None:
            if len(self._hashes) >= MEMO_MAX:
                self._hashes.clear()
            value = self._hashes[member_id] = murmur2(str(member_id).encode()) & 0x7FFFFFFF
        return value % partitions
