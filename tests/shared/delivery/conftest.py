"""`probe`: the probe service in this process, on the real broker and a database of its own; what it did, as rows."""

import secrets
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared import partitioning
from shared.database import open_database
from shared.migrating import migrate
from tests.fixtures.databases import DatabaseFactory, connected
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import RunningService, RunService
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.books import Books
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, add_tables, build

PARTITIONS = 2
RED_FLAG = ("chest-pain-breathless",)


@pytest.fixture
async def probe_url(topics: TopicFactory, database: DatabaseFactory) -> str:
    """A database ready for the probe, and its topics."""
    await topics(ACTIVITY, MEMBERS, "careloop.plans", partitions=PARTITIONS)
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    return url


@pytest.fixture
async def books(database: DatabaseFactory) -> AsyncIterator[Books]:
    """The probe's books on a database of its own, nobody else at them."""
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    pool = await open_database(url, connections=6, application="test")
    opened = Books(pool)
    await opened.open()
    yield opened
    await pool.close()


@pytest.fixture
async def probe(run_service: RunService, probe_url: str) -> AsyncIterator[RunningService]:
    async with run_service(build, name="probe", database_url=probe_url) as running:
        yield running


async def effects_of(running: RunningService, member_id: UUID) -> list[int]:
    rows = await running.service.database.fetch(
        "select score from effects where member_id = $1 order by effect_id", member_id
    )
    return [row["score"] for row in rows]


async def effects_are(running: RunningService, member: UUID, expected: list[int]) -> bool:
    """True, or an AssertionError that shows what they are instead."""
    found = await effects_of(running, member)
    assert found == expected
    return True


async def held(running: RunningService, group: str = "probe.activity") -> list[asyncpg.Record]:
    return await running.service.database.fetch(
        "select * from delivery.held_events where consumer_group = $1 order by held_id", group
    )


def partition_of(member: UUID) -> int:
    return partitioning.partition_of(member, PARTITIONS)


def neighbour_of(member: UUID) -> UUID:
    """Another member of the same partition: what holds up the partition holds them up."""
    while True:
        other = uuid4()
        if partition_of(other) == partition_of(member):
            return other


@pytest.fixture
async def role(servers: RunningServers) -> AsyncIterator[str]:
    """A role with a database of the same name, for a service of its own."""
    name = f"t{secrets.token_hex(6)}"
    async with connected(servers.postgres_url) as admin:
        await admin.execute(f"create role {name} login password 'first'")
        await admin.execute(f"create database {name} owner {name}")
        yield name
        await admin.execute(f"drop database if exists {name} with (force)")
        await admin.execute(f"drop role {name}")
