"""How every part of a service reaches Kafka: addresses and security."""

from typing import Any

from aiokafka import AIOKafkaProducer

from shared.settings import ServiceSettings
from shared.topics import kafka_security


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
