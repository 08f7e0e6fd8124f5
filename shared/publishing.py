"""Publishing straight to Kafka, answered only once the broker has acknowledged: for an ingress.

What a service decides goes through its outbox instead. The producer is idempotent with acks=all; partitions are chosen
by murmur2 of the member's UUID, as everywhere. A producer that failed fatally is replaced by a new one.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from shared.events.codec import HEADERS
from shared.kafka import new_producer, tasks_of
from shared.partitioning import key_of
from shared.settings import ServiceSettings
from shared.telemetry import logger
from shared.topics import topic_name

log = logger("publishing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event in structured mode and the member whose it is."""

    member_id: UUID
    value: bytes
    headers: Sequence[tuple[str, bytes]] = HEADERS


class Publisher:
    """One producer of a process. `run` is a task of the service; `publish` may be called from any request."""

    def __init__(self, settings: ServiceSettings, *, timeout_s: float) -> None:
        """`timeout_s`: how long `publish` waits for acknowledgements, in machine time."""
        self._settings, self._timeout_s = settings, timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._broken = asyncio.Event()

    async def run(self) -> None:
        """Hold a started producer, and replace it when it broke. Ends by cancellation; raises what starting raises, so
        that whoever runs it starts again with backoff."""
        while True:
            self._broken = asyncio.Event()
            producer = new_producer(self._settings)
            try:
                await producer.start()
                self._producer = producer
                await self._until_broken(producer)
                log.warning("the producer broke and is replaced")
            finally:
                self._producer = None
                with suppress(Exception):
                    await asyncio.wait_for(asyncio.shield(producer.stop()), 5)

    async def _until_broken(self, producer: AIOKafkaProducer) -> None:
        """Or until something has ended without which the client sends nothing: it does not always tell those who wait
        for what was under way, and whoever comes later would never be acknowledged."""
        broken = asyncio.create_task(self._broken.wait())
        try:
            await asyncio.wait((broken, *tasks_of(producer)), return_when=asyncio.FIRST_COMPLETED)
        finally:
            broken.cancel()

    async def publish(self, topic: str, records: Sequence[Outgoing]) -> list[bool]:
        """Which of these records Kafka has acknowledged, in their order. False: not, or not known in time; sending it
        again is right, since its identity is the same. Never raises for a failure of Kafka."""
        producer = self._producer
        if producer is None or not records:
            return [False] * len(records)
        name = topic_name(self._settings.namespace, topic)
        sent: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                partitions = len(await producer.partitions_for(name))
                for record in records:
                    key = key_of(record.member_id)
                    sent.append(
                        await producer.send(
                            name,
                            value=record.value,
                            key=key.raw,
                            partition=key.hash % partitions,
                            headers=list(record.headers),
                        )
                    )
                # Not cancelled when time is up: what is on its way may still arrive, and a cancelled batch would break.
                await asyncio.wait(sent)
        except (KafkaError, TimeoutError) as error:
            log.warning("events were not acknowledged", error=type(error).__name__, sent=len(sent), of=len(records))
        acknowledged = [self._is_acknowledged(future) for future in sent]
        return acknowledged + [False] * (len(records) - len(sent))

    def _is_acknowledged(self, future: "asyncio.Future[object]") -> bool:
        if not future.done():
            # Whoever waited has gone; its failure, should it fail, still has to be looked at.
            future.add_done_callback(self._look_at)
            return False
        return self._look_at(future)

    def _look_at(self, future: "asyncio.Future[object]") -> bool:
        if future.cancelled():
            return False
        error = future.exception()
        if error is not None and not isinstance(error, KafkaTimeoutError):
            # After a rejected batch an idempotent producer can stay out of sequence: a new one starts afresh.
            self._broken.set()
        return error is None
