"""A database that takes nothing for a while, for a reason that no event has: no event is blamed for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.database import Connection, open_database
from shared.migrating import migrate
from shared.outcomes import Outcomes
from shared.replaying import Reader
from shared.telemetry import BUGS, CHUNK_RETRIES
from tests.fixtures.databases import connected, with_database
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.shared.delivery.books import GROUP, Books
from tests.shared.delivery.probe import add_tables, follow_activity, pain

TRIES = 4
"""Of a chunk of one: as it is, looking for the guilty event, and twice as one that cannot be stored."""
FAIL = """
create function fail() returns trigger language plpgsql as $$
begin raise exception 'invalid page in block 0 of relation "effects"' using errcode = '{0}'; end $$;
create trigger fail before insert on effects for each statement execute function fail();
"""
HEAL = "drop trigger fail on effects"
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1"


@pytest.mark.parametrize(
    ("deny", "allow"),
    [
        ("alter database {0} set default_transaction_read_only = on", "alter database {0} reset all"),
        ("alter role {0} password 'rotated'", "alter role {0} password 'first'"),
        ("alter role {0} nologin", "alter role {0} login"),
        ("alter role {0} connection limit 0", "alter role {0} connection limit -1"),
        ("alter database {0} allow_connections false", "alter database {0} allow_connections true"),
    ],
    ids=["read-only", "password-changed", "not-let-in", "too-many", "closed"],
)
async def test_no_event_is_blamed_for_a_database_that_takes_nothing(
    servers: RunningServers, role: str, deny: str, allow: str
) -> None:
    """Given a database that became read-only, as one does whose disk is nearly full or that is a standby now, or that
    lets nobody in, when it is as before, then what came meanwhile has taken effect and nothing is held."""
    url = with_database(servers.postgres_url, database=role, user=role, password="first")
    await migrate(url, service="probe")
    await add_tables(url)
    pool = await open_database(url, connections=4, application="test")
    async with connected(servers.postgres_url) as admin, pool:
        books, member = Books(pool), uuid4()
        await books.open()
        await do_to_all(admin, deny, role)
        async with taking_meanwhile(books, member):
            await do_to_all(admin, allow, role)


@asynccontextmanager
async def taking_meanwhile(books: Books, member: UUID) -> AsyncIterator[None]:
    """Begins when an event of the member has been tried several times; it is to be taken once the block has ended."""
    failed_before = failures()
    taking = asyncio.create_task(books.take_as_the_runtime(books.write(pain(member, 3))))
    await eventually(lambda: failures() - failed_before >= TRIES, within=30, what="the chunk is tried again")
    yield
    await asyncio.wait_for(taking, 30)
    assert await books.effects(member) == [3]
    assert await books.held() == []


async def do_to_all(admin: "asyncpg.Connection[asyncpg.Record]", statement: str, role: str) -> None:
    """Whoever is there has to come in again."""
    await admin.execute(statement.format(role))
    await admin.fetch(END_SESSIONS, role)


def failures() -> float:
    """How often a chunk could not be taken, whoever was blamed."""
    return float(CHUNK_RETRIES.labels(GROUP)._value.get() + BUGS.labels(GROUP)._value.get())


@pytest.mark.parametrize("sqlstate", ["XX001", "XX002", "XX000"])
async def test_no_event_is_blamed_for_a_page_that_cannot_be_read(books: Books, sqlstate: str) -> None:
    """Memory or a disk that errs: healed by a failover or a restart, and no event's fault."""
    member = uuid4()
    await books.pool.execute(FAIL.format(sqlstate))
    async with taking_meanwhile(books, member):
        await books.pool.execute(HEAL)


async def test_no_event_is_blamed_for_memory_that_is_used_up(books: Books) -> None:
    member, short = uuid4(), True

    async def follow(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        if short:
            raise MemoryError
        return await follow_activity(connection, events, now=now)

    reader = books.readers[GROUP]
    books.readers = {**books.readers, GROUP: Reader(replace(reader.subscription, run=follow), reader.decoder)}
    async with taking_meanwhile(books, member):
        short = False
