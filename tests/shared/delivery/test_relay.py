"""Given rows in the outbox, when the relay hands them over, then each member's events lie in the log in order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.database import Database, open_database
from shared.events.codec import encode
from shared.migrating import migrate
from shared.relay import Relay
from shared.settings import ServiceSettings
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.probe import ACTIVITY, pain

INSERT = """
insert into delivery.outbox (topic, member_id, value)
select $1, m, v from unnest($2::uuid[], $3::bytea[]) with ordinality as o(m, v, place) order by place
"""


@pytest.fixture
async def settings(
    servers: RunningServers, namespace: str, database: DatabaseFactory, topics: TopicFactory
) -> ServiceSettings:
    await topics(ACTIVITY, partitions=3)
    url = await database(None)
    await migrate(url, service="probe")
    values = {"database_url": url, "kafka_bootstrap": servers.kafka_bootstrap, "namespace": namespace, "port": 0}
    return ServiceSettings(**values)  # type: ignore[arg-type]


@pytest.fixture
async def pool(settings: ServiceSettings) -> AsyncIterator[Database]:
    opened = await open_database(settings.database_url.get_secret_value(), connections=6, application="test")
    yield opened
    await opened.close()


async def put(pool: Database, events: Sequence[tuple[UUID, bytes]]) -> None:
    await pool.execute(INSERT, ACTIVITY, [member for member, _ in events], [value for _, value in events])


def events_of(members: Sequence[UUID], rounds: int) -> list[tuple[UUID, bytes]]:
    return [(m, encode(pain(m, number % 11, event_id=f"{number}"))) for number in range(rounds) for m in members]


async def empty(pool: Database) -> bool:
    left = await pool.fetchval("select count(*) from delivery.outbox")
    assert left == 0, left
    return True


async def test_two_relays_keep_the_order_and_one_takes_over(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    members = [uuid4() for _ in range(7)]
    relays = [Relay(settings, pool) for _ in range(2)]
    running = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        await put(pool, events_of(members, 20))
        await eventually(lambda: empty(pool))
        assert sum(relay.leading for relay in relays) == 1
        leader = next(number for number, relay in enumerate(relays) if relay.leading)
        running[leader].cancel()
        await asyncio.gather(running[leader], return_exceptions=True)
        await put(pool, [(m, encode(pain(m, 1, event_id="last"))) for m in members])
        await eventually(lambda: empty(pool))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    read = await consume(ACTIVITY, count=7 * 21)
    for member in members:
        told = [event["id"] for event in read if event["subject"] == str(member)]
        assert told == [str(number) for number in range(20)] + ["last"]


async def test_a_record_that_kafka_refuses_holds_up_its_member_only(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    refused, *others = (uuid4() for _ in range(6))
    old = "update delivery.outbox set created_at = created_at - interval '60 days' where member_id = $1"
    await put(pool, [(refused, encode(pain(refused, 1, event_id="refused")))])
    await pool.execute(old, refused)
    await set_timestamp_limit(settings)
    await put(pool, [(refused, encode(pain(refused, 2, event_id="behind"))), *events_of(others, 5)])
    relay = Relay(settings, pool)
    task = asyncio.create_task(relay.run())
    try:
        read = await consume(ACTIVITY, count=25)
        assert {event["subject"] for event in read} == {str(member) for member in others}

        async def others_are_acknowledged() -> bool:
            return bool(await pool.fetchval("select count(*) = 2 from delivery.outbox"))

        await eventually(others_are_acknowledged)
        await pool.execute("update delivery.outbox set created_at = clock_timestamp()")
        await eventually(lambda: empty(pool), within=30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    ids = [event["id"] for event in await consume(ACTIVITY, count=27) if event["subject"] == str(refused)]
    assert ids == ["refused", "behind"]


async def set_timestamp_limit(settings: ServiceSettings) -> None:
    """As the catalogue's topics have it; topics of a test are made without."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        name = f"{settings.namespace}.{ACTIVITY}"
        wanted = {"message.timestamp.before.max.ms": str(33 * 86_400_000)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted)])
    finally:
        await admin.close()
