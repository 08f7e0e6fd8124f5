"""Publishing straight to Kafka: acknowledged, in order, by murmur2; and well again after a rejected batch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, UnknownError
from aiokafka.partitioner import murmur2
from aiokafka.producer.sender import SendProduceReqHandler

from shared.publishing import Outgoing, Publisher
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory

TOPIC = "careloop.activity"


def settings(bootstrap: str, namespace: str) -> ServiceSettings:
    values = {"database_url": "postgresql://unused", "kafka_bootstrap": bootstrap, "namespace": namespace, "port": 0}
    return ServiceSettings.model_validate(values)


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_records_are_acknowledged_in_order_in_the_partition_of_their_key(
    servers: RunningServers, topics: TopicFactory, namespace: str
) -> None:
    full = (await topics(TOPIC, partitions=3))[TOPIC]
    publisher = Publisher(settings(servers.kafka_bootstrap, namespace), timeout_s=20)
    members = [uuid4() for _ in range(5)]
    records = [Outgoing(member_id=members[n % 5], value=str(n).encode()) for n in range(50)]
    async with running(publisher):
        ready = Outgoing(member_id=members[0], value=b"-1")

        async def published() -> bool:
            return (await publisher.publish(TOPIC, [ready])) == [True]

        await eventually(published, within=30)
        assert await publisher.publish(TOPIC, records) == [True] * 50
        assert await publisher.publish(TOPIC, []) == []
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(full, number) for number in range(3)]
        consumer.assign(partitions)
        found: dict[bytes, list[int]] = {}
        async with asyncio.timeout(20):
            while sum(len(values) for values in found.values()) < 51:
                record = await consumer.getone()
                assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 3
                found.setdefault(record.key, []).append(int(record.value))
    finally:
        await consumer.stop()
    for place, member in enumerate(members):
        expected = list(range(place, 50, 5))
        assert found[str(member).encode()] == ([-1, *expected] if place == 0 else expected)


async def test_what_the_broker_rejects_is_not_acknowledged_and_later_records_are(
    servers: RunningServers, topics: TopicFactory, namespace: str
) -> None:
    await topics(TOPIC, partitions=1)
    publisher = Publisher(settings(servers.kafka_bootstrap, namespace), timeout_s=20)
    member_id = uuid4()
    fine = Outgoing(member_id=member_id, value=b"fine")
    too_large = Outgoing(member_id=member_id, value=bytes(1_500_000))
    async with running(publisher):

        async def published() -> bool:
            return (await publisher.publish(TOPIC, [fine])) == [True]

        await eventually(published, within=30)
        assert await publisher.publish(TOPIC, [too_large]) == [False]
        await eventually(published, within=30)


@pytest.mark.parametrize("part", ["_sender.sender_task", "client._sync_task"])
async def test_a_client_that_sends_nothing_any_more_is_replaced(
    servers: RunningServers, topics: TopicFactory, namespace: str, part: str
) -> None:
    """Given one of which a task has ended for good, as after an error that it does not expect, then what an app posts
    is accepted soon: nobody else would notice, and no event would be taken by this process any more."""
    await topics(TOPIC, partitions=1)
    publisher = Publisher(settings(servers.kafka_bootstrap, namespace), timeout_s=2)
    async with running(publisher):

        async def published() -> bool:
            return (await publisher.publish(TOPIC, [Outgoing(member_id=uuid4(), value=b"fine")])) == [True]

        await eventually(published, within=30)
        used = publisher._producer
        attrgetter(part)(used).cancel()
        await eventually(lambda: publisher._producer not in (None, used), within=20, what="it is replaced")
        await eventually(published, within=30)


async def test_without_a_broker_nothing_is_acknowledged(namespace: str) -> None:
    publisher = Publisher(settings("127.0.0.1:1", namespace), timeout_s=1)
    assert await publisher.publish(TOPIC, [Outgoing(member_id=uuid4(), value=b"x")]) == [False]


@pytest.mark.parametrize("is_refused", [False, True], ids=["taken late", "refused late"])
async def test_what_is_not_acknowledged_in_time_is_not_told_to_be(
    servers: RunningServers,
    topics: TopicFactory,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    is_refused: bool,
) -> None:
    """Given a broker that answers when nobody waits any more, then the app is to send again; and where it refused what
    was on its way, the producer is replaced all the same: it is out of sequence there for good."""
    await topics(TOPIC, partitions=1)
    publisher = Publisher(settings(servers.kafka_bootstrap, namespace), timeout_s=20)
    fine, may_answer, send = Outgoing(member_id=uuid4(), value=b"fine"), asyncio.Event(), SendProduceReqHandler.do

    async def answer_late(handler: Any, node: int) -> None:
        await may_answer.wait()
        if is_refused:
            for batch in handler._batches.values():
                batch.failure(exception=UnknownError())
        else:
            await send(handler, node)

    async with running(publisher):

        async def published() -> bool:
            return (await publisher.publish(TOPIC, [fine])) == [True]

        await eventually(published, within=30)
        used, publisher._timeout_s = publisher._producer, 0.2
        monkeypatch.setattr(SendProduceReqHandler, "do", answer_late)
        assert await publisher.publish(TOPIC, [fine, fine]) == [False, False]
        may_answer.set()
        if is_refused:
            await eventually(lambda: publisher._producer not in (None, used), within=10, what="it is replaced")
        monkeypatch.undo()
        publisher._timeout_s = 20
        await eventually(published, within=30)


async def test_what_the_client_gives_up_while_it_is_waited_for_is_not_told_to_be_acknowledged(
    servers: RunningServers, topics: TopicFactory, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may join a batch that began long before, and has less time than whoever waits for it."""
    await topics(TOPIC, partitions=1)
    publisher = Publisher(settings(servers.kafka_bootstrap, namespace), timeout_s=20)
    fine = Outgoing(member_id=uuid4(), value=b"fine")

    async def expire(handler: Any, _: int) -> None:
        for batch in handler._batches.values():
            batch.failure(exception=KafkaTimeoutError())

    async with running(publisher):

        async def published() -> bool:
            return (await publisher.publish(TOPIC, [fine])) == [True]

        await eventually(published, within=30)
        with monkeypatch.context() as patch:
            patch.setattr(SendProduceReqHandler, "do", expire)
            assert await publisher.publish(TOPIC, [fine, fine]) == [False, False]
        await eventually(published, within=30)
