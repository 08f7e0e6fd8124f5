"""The relay's producers: a record that is refused costs its member alone, and none is kept that nobody uses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, UnknownError
from aiokafka.producer.sender import SendProduceReqHandler

from shared import sending
from shared.clock import wall_now
from shared.ending import end_tasks
from shared.events.codec import encode
from shared.kafka import new_producer
from shared.sending import Sender, Sent
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.probe import ACTIVITY, pain


@pytest.fixture
async def place(topics: TopicFactory) -> TopicPartition:
    return TopicPartition((await topics(ACTIVITY, partitions=1))[ACTIVITY], 0)


@pytest.fixture
async def sender(servers: RunningServers, namespace: str) -> AsyncIterator[Sender]:
    opened = Sender(
        ServiceSettings(
            database_url="postgresql://not.used", kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, port=0
        )
    )
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[UUID]:
    """Members of whom the broker takes no record, and it does not say why."""
    members, send = set[UUID](), SendProduceReqHandler.do

    async def do(handler: Any, node: int) -> None:
        for batch in handler._batches.values():
            if any(str(member).encode() in bytes(batch.get_data_buffer()) for member in members):
                batch.failure(exception=UnknownError())
        handler._batches = {place: batch for place, batch in handler._batches.items() if not batch.future.done()}
        if handler._batches:
            await send(handler, node)

    monkeypatch.setattr(SendProduceReqHandler, "do", do)
    return members


@pytest.fixture
def made_apart(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaProducer]:
    """The producers for what has failed, one after the other."""
    producers, make = list[AIOKafkaProducer](), sending._new_producer_apart

    def note(settings: ServiceSettings) -> AIOKafkaProducer:
        producers.append(make(settings))
        return producers[-1]

    monkeypatch.setattr(sending, "_new_producer_apart", note)
    return producers


def row(member: UUID) -> Any:
    return {"member_id": member, "value": encode(pain(member, 1)), "created_at": wall_now()}


async def test_whoever_is_refused_again_without_a_reason_is_not_the_partitions_fault(
    sender: Sender, place: TopicPartition, refused: set[UUID]
) -> None:
    """Given a member whose event was refused while others' were taken, when it is the only one that is tried again,
    then the partition does not wait for it, and the others' next events go out at once."""
    guilty, other = uuid4(), uuid4()
    refused.add(guilty)
    first, again = Sent(), Sent()
    await sender.send(place, [row(guilty), row(other)], first, apart=False, suspects=set())
    assert [one["member_id"] for one in first.acknowledged] == [other]
    assert first.refused == {guilty: "UnknownError"}
    await sender.send(place, [row(guilty)], again, apart=False, suspects={guilty})
    assert again.refused == {guilty: "UnknownError"}


async def test_where_nobody_is_taken_it_is_the_partition_that_refuses(
    sender: Sender, place: TopicPartition, refused: set[UUID]
) -> None:
    """Its members are held up nowhere else."""
    members = [uuid4() for _ in range(9)]
    refused.update(members)
    sent = Sent()
    with pytest.raises(UnknownError):
        await sender.send(place, [row(member) for member in members], sent, apart=False, suspects=set())
    assert (sent.acknowledged, sent.refused) == ([], {})


async def test_a_row_of_a_database_whose_clock_was_ahead_goes_out_at_once(
    sender: Sender, place: TopicPartition
) -> None:
    """Given rows that were written while the database's clock was days ahead, when it is right again, then Kafka takes
    them: nobody waits for days, and no red flag."""
    sent = Sent()
    ahead: Any = {**row(uuid4()), "created_at": wall_now() + timedelta(days=3)}
    await sender.send(place, [ahead, row(uuid4())], sent, apart=False, suspects=set())
    assert len(sent.acknowledged) == 2
    assert sent.refused == {}


@pytest.mark.parametrize("part", ["_sender.sender_task", "client._sync_task"])
async def test_a_producer_whose_own_task_has_failed_is_replaced_and_closed(
    sender: Sender, place: TopicPartition, made_apart: list[AIOKafkaProducer], part: str
) -> None:
    """Or its connections would stay open for as long as the service runs."""
    sent = Sent()
    await sender.send(place, [row(uuid4())], sent, apart=True, suspects=set())
    await end_tasks([attrgetter(part)(made_apart[0])], within_s=5)
    await sender.send(place, [row(uuid4())], sent, apart=True, suspects=set())
    assert len(sent.acknowledged) == 2
    await eventually(lambda: [one._closed for one in made_apart] == [True, False], within=10)


@pytest.mark.parametrize("part", ["_sender.sender_task", "client._sync_task"])
async def test_where_the_common_producer_has_ended_another_one_is_made(
    sender: Sender, place: TopicPartition, part: str
) -> None:
    """Or nobody would know how many partitions a topic has, and none of its events would go out."""
    assert sender._main is not None
    first = sender._main.producer
    await end_tasks([attrgetter(part)(first)], within_s=5)
    await sender.start()
    await eventually(lambda: sender._main and sender._main.producer is not first, within=10, what="it is replaced")
    assert await sender.count_partitions(place.topic) == 1


async def test_a_producer_that_is_closed_with_a_batch_under_way_sends_it_no_more(
    sender: Sender, place: TopicPartition, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Given brokers that are away for longer than a batch is waited for, on a machine that is busy, then the producer
    ends in order: of a task of the client's that ends by itself somebody is told."""
    assert sender._main is not None
    producer = sender._main.producer
    await sender.send(place, [row(uuid4())], Sent(), apart=False, suspects=set())
    stop = producer.stop

    async def send(*_: Any, **__: Any) -> Any:
        raise KafkaConnectionError

    async def stop_slowly() -> None:
        await asyncio.sleep(5 * producer._sender._retry_backoff)
        await stop()

    monkeypatch.setattr(producer.client, "send", send)
    monkeypatch.setattr(producer, "stop", stop_slowly)
    sending_it = asyncio.create_task(sender.send(place, [row(uuid4())], Sent(), apart=False, suspects=set()))
    await eventually(lambda: producer._message_accumulator._pending_batches, within=5, what="it is under way")
    await sending.close_producer(producer, at_once=True)
    assert "Unexpected error" not in caplog.text
    await end_tasks([sending_it], within_s=5)


async def test_whoever_closes_a_producer_goes_on_where_a_task_of_the_clients_was_cancelled(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client raises that to whoever waits for it, who would pass for cancelled although nobody did that."""
    assert sender._main is not None

    async def close() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(sender._main.producer._sender, "close", close)
    closing = asyncio.create_task(sending.close_producer(sender._main.producer, at_once=True))
    await asyncio.wait((closing,), timeout=20)
    assert closing.done()
    assert not closing.cancelled()


@pytest.mark.parametrize("make", [new_producer, sending._new_producer_apart])
async def test_a_record_counts_as_sent_once_all_replicas_have_it(make: Callable[[ServiceSettings], Any]) -> None:
    """Its row is deleted then: a leader that dies alone with it would have lost it."""
    settings = ServiceSettings(database_url="postgresql://not.used", kafka_bootstrap="127.0.0.1:1", port=0)
    assert make(settings)._sender._acks == -1
