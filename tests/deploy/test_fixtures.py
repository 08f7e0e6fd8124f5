"""The suite's own ground: real servers, a database and topics that no other test sees."""

import asyncio

import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.fixtures.databases import DatabaseFactory, place_of, with_port
from tests.fixtures.eventually import eventually
from tests.fixtures.lines import line_to
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


async def test_a_line_loses_who_speaks_on_it_until_both_sides_are_told(
    servers: RunningServers, database: DatabaseFactory
) -> None:
    url = await database(None)
    async with line_to(*place_of(servers.postgres_url)) as line:
        lost = await asyncpg.connect(with_port(url, line.port))
        pid = await lost.fetchval("select pg_backend_pid()")
        line.lose()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(lost.execute("select 1"))), 0.3)
        other = await asyncpg.connect(with_port(url, line.port))
        assert await other.fetchval("select count(*) from pg_stat_activity where pid = $1", pid) == 1
        line.tell()
        gone = "select count(*) = 0 from pg_stat_activity where pid = $1"
        await eventually(lambda: other.fetchval(gone, pid), within=10, what="the server has heard of it")
        await eventually(lambda: lost.is_closed(), within=10, what="and the client")
        await other.close()


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
