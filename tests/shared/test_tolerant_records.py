"""One record whose header name is not UTF-8 neither stops its partition nor loses a neighbour."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from shared import tolerant_records
from shared.clock import monotonic
from shared.tolerant_records import tolerate_header_names
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory

COMPRESSIONS = {"none": 0, "gzip": 1}


class BrokenName(str):
    """A header name as only a client without checks would send it."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"x\xff\xfe"


@pytest.fixture
def tolerant() -> Iterator[None]:
    before = fetcher.MemoryRecords
    tolerate_header_names()
    yield
    fetcher.MemoryRecords = before


@pytest.fixture
async def partition(servers: RunningServers, topics: TopicFactory) -> TopicPartition:
    names = await topics("careloop.visits", partitions=1)
    return TopicPartition(names["careloop.visits"], 0)


@pytest.fixture
async def producer(servers: RunningServers) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap)
    await client.start()
    yield client
    await client.stop()


async def publish_broken(producer: AIOKafkaProducer, partition: TopicPartition, compression: int) -> None:
    """One batch: a good record, one with a broken header name, a good one with a header that has no value."""
    timestamp = (await producer.send_and_wait(partition.topic, b"first", partition=0)).timestamp
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 100_000)
    builder.append(0, timestamp, b"a", b"before", [])
    builder.append(1, timestamp, b"b", b"broken", [(BrokenName("x"), b"1"), ("plain", None)])
    builder.append(2, timestamp, b"c", b"after", [("empty", None)])
    batch = producer.create_batch()
    batch._builder, batch._relative_offset = builder, 3
    await (await producer.send_batch(batch, partition.topic, partition=0))
    await producer.send_and_wait(partition.topic, b"last", partition=0)


async def read_all(servers: RunningServers, partition: TopicPartition, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka_bootstrap)
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        found: list[Any] = []
        deadline = monotonic() + 20
        while len(found) < count and monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


@pytest.mark.parametrize("at_once", [1, 2, 3, 500])
@pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=COMPRESSIONS)
async def test_a_broken_header_name_stops_nobody(
    servers: RunningServers,
    producer: AIOKafkaProducer,
    partition: TopicPartition,
    compression: int,
    at_once: int,
    tolerant: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tolerant_records, "AT_ONCE", at_once)
    await publish_broken(producer, partition, compression)
    records = await read_all(servers, partition, 5)

    assert [(record.offset, record.key, record.value) for record in records] == [
        (0, None, b"first"),
        (1, b"a", b"before"),
        (2, b"b", b"broken"),
        (3, b"c", b"after"),
        (4, None, b"last"),
    ]
    assert list(records[2].headers) == [("x\ufffd\ufffd", b"1"), ("plain", None)]
    assert list(records[3].headers) == [("empty", None)]


async def test_it_would_stop_the_library(
    servers: RunningServers, producer: AIOKafkaProducer, partition: TopicPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails, the library has learnt it, and shared/tolerant_records.py can go."""
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    await publish_broken(producer, partition, 0)

    with pytest.raises(UnicodeDecodeError):
        await read_all(servers, partition, 5)
