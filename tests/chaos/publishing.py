"""Publishes a stream at its times. A record is accepted once Kafka has acknowledged it; until then it is sent again."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from deploy.local.kafka import kafka_answers
from shared.clock import monotonic
from shared.events.codec import HEADERS
from shared.sending import close_producer
from shared.topics import topic_name
from tests.chaos.stream import Publication

TICK_S = 0.25
ACKNOWLEDGED_S = 8.0
ACCEPTED_S = 240.0
"""Far beyond the longest time for which Kafka is away."""


async def each_tick(stream: Sequence[Publication]) -> AsyncIterator[Sequence[Publication]]:
    """What has become due since the tick before, in order, until all of it has."""
    began, place = monotonic(), 0
    while place < len(stream):
        now, end = monotonic() - began, place
        while end < len(stream) and stream[end].at_s <= now:
            end += 1
        if end > place:
            yield stream[place:end]
            place = end
        await asyncio.sleep(TICK_S)


class Publisher:
    """One app that publishes everything: what it sends later lies later in the log."""

    def __init__(self, bootstrap: str, namespace: str) -> None:
        self._bootstrap, self._namespace = bootstrap, namespace
        self._producer: AIOKafkaProducer | None = None

    async def publish(self, stream: Sequence[Publication]) -> None:
        """At once, in order; returns when all of it is accepted. TimeoutError where it is not for very long."""
        # A whole batch is sent again: copies behind what they are copies of.
        accepted, until = False, monotonic() + ACCEPTED_S
        while not accepted:
            if monotonic() > until:
                raise TimeoutError("Kafka accepts nothing")
            sent: list[asyncio.Future[object]] = []
            try:
                producer = await self._connect()
                async with asyncio.timeout(ACKNOWLEDGED_S):
                    for one in stream:
                        sent.append(await self._send(producer, one))
                    accepted = not any(isinstance(a, Exception) for a in await _answers(sent))
            except (KafkaError, OSError, TimeoutError):
                pass
            if not accepted:
                await self.close()
                await asyncio.sleep(0.3)

    async def play(self, stream: Sequence[Publication]) -> None:
        """Each at its time, a tick at a time."""
        async for due in each_tick(stream):
            await self.publish(due)

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer, at_once=True)

    async def _connect(self) -> AIOKafkaProducer:
        if self._producer is None:
            if not await kafka_answers(self._bootstrap):
                raise KafkaConnectionError(self._bootstrap)
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True)
            try:
                await asyncio.wait_for(producer.start(), 10)
            except BaseException:
                await close_producer(producer, at_once=True)
                raise
            self._producer = producer
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, one: Publication) -> "asyncio.Future[object]":
        sent: asyncio.Future[object] = await producer.send(
            topic_name(self._namespace, one.topic),
            key=one.key,
            value=one.value,
            headers=list(HEADERS),
            partition=0 if one.key is None else None,
        )
        return sent


async def _answers(sent: Sequence["asyncio.Future[object]"]) -> list[object]:
    return await asyncio.gather(*sent, return_exceptions=True)
