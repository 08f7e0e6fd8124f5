"""The suite's own ground: real servers, a database and topics that no other test sees."""

import asyncpg
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory


async def test_each_call_makes_another_empty_database(database: DatabaseFactory) -> None:
    first, second = await database(None), await database(None)
    connection = await asyncpg.connect(first)
    await connection.execute("create table mark (n int)")
    await connection.close()
    connection = await asyncpg.connect(second)
    assert await connection.fetchval("select to_regclass('mark')") is None
    assert await connection.fetchval("show server_version_num") >= "180000"
    await connection.close()


async def test_topics_carry_records_in_the_namespace(
    servers: RunningServers, namespace: str, topics: TopicFactory
) -> None:
    made = await topics("careloop.activity", partitions=2)
    name = made["careloop.activity"]
    assert name == f"{namespace}.careloop.activity"
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, enable_idempotence=True) as producer:
        sent = await producer.send_and_wait(name, b"hello", key=b"k")
    consumer = AIOKafkaConsumer(
        name, bootstrap_servers=servers.kafka_bootstrap, group_id=f"{namespace}.g", auto_offset_reset="earliest"
    )
    async with consumer:
        read = await consumer.getone()
    assert (read.value, read.partition, read.offset) == (b"hello", sent.partition, sent.offset)
    assert len(consumer.partitions_for_topic(name) or ()) == 2


async def test_valkey_answers_with_its_password_only(servers: RunningServers) -> None:
    client = redis.asyncio.Redis.from_url(servers.valkey_url)
    assert await client.ping()
    settings = await client.config_get("save", "appendonly")
    assert settings == {"save": "", "appendonly": "no"}
    await client.aclose()
