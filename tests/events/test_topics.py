"""Topics on a real broker: made from the catalogue, checked against it, never silently changed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Message, Producer

from shared.events.catalogue import TOPICS
from shared.settings import ServiceSettings
from shared.topics import TopicDiffers, create_topics, describe_topics, group_name, kafka_security, topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory, admin_client

DAY_MS = 86_400_000


@pytest.fixture
async def admin(servers: RunningServers, topics: TopicFactory) -> AsyncIterator[AIOKafkaAdminClient]:
    """`topics` deletes the namespace's topics after the test."""
    async with admin_client(servers.kafka_bootstrap) as client:
        yield client


def test_names_in_a_namespace() -> None:
    assert topic_name("", "careloop.activity") == "careloop.activity"
    assert topic_name("t3f9", "careloop.activity") == "t3f9.careloop.activity"
    assert group_name("", "plans.activity") == "plans.activity"
    assert group_name("t3f9", "plans.activity") == "t3f9.plans.activity"


async def test_topics_are_made_once_as_the_catalogue_says(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    expected = [f"{namespace}.{topic.name}" for topic in TOPICS]

    assert await create_topics(servers.kafka_bootstrap, namespace=namespace) == expected
    assert await create_topics(servers.kafka_bootstrap, namespace=namespace) == []
    described = await describe_topics(servers.kafka_bootstrap, namespace=namespace)
    assert [topic.name for topic in described] == expected
    for there, topic in zip(described, TOPICS, strict=True):
        assert (there.partitions, there.replication, there.leaderless) == (topic.partitions, 1, 0)
        assert there.settings == {
            "cleanup.policy": "delete",
            "retention.ms": str(topic.retention_days * DAY_MS),
            "segment.ms": str(DAY_MS),
            "max.message.bytes": "1048588",
            "message.timestamp.type": "CreateTime",
            "message.timestamp.before.max.ms": str(33 * DAY_MS),
            "message.timestamp.after.max.ms": str(60 * 60 * 1000),
            "compression.type": "uncompressed",
            "min.insync.replicas": "1",
            "unclean.leader.election.enable": "false",
        }


async def test_two_processes_may_make_them_at_once(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    both = await asyncio.gather(
        *(create_topics(servers.kafka_bootstrap, namespace=namespace, partitions=1) for _ in range(2))
    )
    assert sorted([*both[0], *both[1]]) == sorted(f"{namespace}.{topic.name}" for topic in TOPICS)


async def test_a_topic_with_another_number_of_partitions_is_an_error_and_stays(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    await admin.create_topics([NewTopic(f"{namespace}.careloop.visits", 5, 1)])

    with pytest.raises(TopicDiffers, match=r"careloop.visits has 5 partitions, the catalogue says 12"):
        await create_topics(servers.kafka_bootstrap, namespace=namespace)
    described = await describe_topics(servers.kafka_bootstrap, namespace=namespace)
    assert {topic.name: topic.partitions for topic in described}[f"{namespace}.careloop.visits"] == 5


async def test_settings_that_somebody_changed_are_set_again(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    await create_topics(servers.kafka_bootstrap, namespace=namespace, partitions=1)
    name = f"{namespace}.careloop.contacts"
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": "compact"})])

    async def settings() -> Mapping[str, str]:
        topics = await describe_topics(servers.kafka_bootstrap, namespace=namespace)
        return next(topic.settings for topic in topics if topic.name == name)

    async def is_kept_by(policy: str) -> bool:
        return (await settings())["cleanup.policy"] == policy

    await eventually(lambda: is_kept_by("compact"), what="the broker tells of the change")
    await create_topics(servers.kafka_bootstrap, namespace=namespace, partitions=1)
    await eventually(lambda: is_kept_by("delete"), what="the catalogue's setting is back")
    assert (await settings())["retention.ms"] == str(31 * DAY_MS)


async def test_the_broker_refuses_a_record_older_than_an_inbox_remembers(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    """A relay that wakes after weeks must not double an effect."""
    await create_topics(servers.kafka_bootstrap, namespace=namespace, partitions=1)
    topic = f"{namespace}.careloop.plans"
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, acks="all")
    await producer.start()
    try:
        now_ms = (await producer.send_and_wait(topic, b"{}")).timestamp
        accepted = await producer.send_and_wait(topic, b"{}", timestamp_ms=now_ms - 32 * DAY_MS)
        with pytest.raises(Exception, match="InvalidTimestamp"):
            await producer.send_and_wait(topic, b"{}", timestamp_ms=now_ms - 34 * DAY_MS)
    finally:
        await producer.stop()
    assert accepted.offset == 1


async def test_murmur2_is_what_the_reference_says_of_other_clients(
    servers: RunningServers, namespace: str, admin: AIOKafkaAdminClient
) -> None:
    """aiokafka's default and librdkafka's `murmur2_random` agree for every key; librdkafka's own default does not."""
    await create_topics(servers.kafka_bootstrap, namespace=namespace)
    topic = f"{namespace}.careloop.activity"
    keys = [str(uuid4()).encode() for _ in range(60)]
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap)
    await producer.start()
    try:
        ours = [(await producer.send_and_wait(topic, b"{}", key=key)).partition for key in keys]
    finally:
        await producer.stop()

    def of_librdkafka(options: dict[str, str]) -> list[object]:
        landed: dict[object, object] = {}

        def note(error: object, message: Message) -> None:
            assert error is None
            landed[message.key()] = message.partition()

        client = Producer({"bootstrap.servers": servers.kafka_bootstrap, **options})
        for key in keys:
            client.produce(topic, b"{}", key=key, on_delivery=note)
        assert client.flush(20) == 0
        return [landed[key] for key in keys]

    assert await asyncio.to_thread(of_librdkafka, {"partitioner": "murmur2_random"}) == ours
    assert await asyncio.to_thread(of_librdkafka, {}) != ours


def test_security_of_the_settings_reaches_the_clients() -> None:
    plain = ServiceSettings(database_url="postgresql://x", port=0)
    secured = ServiceSettings(
        database_url="postgresql://x",
        port=0,
        kafka_security="SASL_SSL",
        kafka_username="plans",
        kafka_password="pw",
    )

    assert kafka_security(plain) == {"security_protocol": "PLAINTEXT"}
    keywords = kafka_security(secured)
    assert keywords.pop("ssl_context").verify_mode.name == "CERT_REQUIRED"
    assert keywords == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "plans",
        "sasl_plain_password": "pw",
    }
