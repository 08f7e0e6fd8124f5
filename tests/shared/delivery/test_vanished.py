"""A host that went without a word, as before a failover: nobody says that the connections to it have ended."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from uuid import uuid4

import pytest

from shared import database as databases
from shared.database import open_database
from shared.migrating import migrate
from shared.telemetry import CHUNK_RETRIES
from shared.vanishing import SENT_MS
from tests.fixtures.databases import DatabaseFactory, place_of, with_port
from tests.fixtures.eventually import eventually
from tests.fixtures.lines import Line, line_to
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import RunService
from tests.shared.delivery.books import GROUP, Books
from tests.shared.delivery.probe import add_tables, build, pain

COUNTED = """
select records_read, records_new, records_duplicate from delivery.positions where consumer_group = $1 and partition = 0
"""
CONNECTIONS = 6
SOON_S = 15


@pytest.fixture
async def line(servers: RunningServers) -> AsyncIterator[Line]:
    """To the server of the databases."""
    async with line_to(*place_of(servers.postgres_url)) as opened:
        yield opened


@pytest.fixture
async def books(database: DatabaseFactory, line: Line, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Books]:
    """Whose connections go over the line, all of them open."""
    monkeypatch.setattr(databases, "ANSWER_S", 1.0)
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    pool = await open_database(with_port(url, line.port), connections=CONNECTIONS, application="test")
    async with AsyncExitStack() as all_at_once:
        for _ in range(CONNECTIONS):
            await all_at_once.enter_async_context(pool.acquire())
    books = Books(pool)
    await books.open()
    yield books
    pool.terminate()


async def test_an_event_waits_for_one_connection_that_answers_no_more_not_for_each(books: Books, line: Line) -> None:
    """Given connections on which nobody answers, when an event comes, then the first attempt tells that they are dead,
    and the next one is made on a new connection: each would keep it waiting for as long as an answer may take."""
    member, failed_before = uuid4(), failures()
    assert line.lose() >= CONNECTIONS
    await asyncio.wait_for(books.take_as_the_runtime(books.write(pain(member, 3))), 60)
    assert await books.effects(member) == [3]
    assert failures() - failed_before == 1


async def test_a_commit_of_which_nobody_hears_counts_once(books: Books, line: Line) -> None:
    """Given a chunk whose commit reaches the database, when the answer is lost and it is taken again, then each event
    has taken effect once, has published once, and is counted once."""
    member, failed_before = uuid4(), failures()
    line.last_words = b"COMMIT"
    await asyncio.wait_for(books.take_as_the_runtime(*(books.write(pain(member, score)) for score in (1, 2))), 60)
    assert failures() - failed_before == 1
    assert await books.effects(member) == [1, 2]
    assert await books.pool.fetchval("select count(*) from delivery.outbox") == 2
    assert [tuple(row) for row in await books.pool.fetch(COUNTED, GROUP)] == [(2, 2, 0)]


async def test_connections_notice_within_seconds_that_nobody_is_there(
    probe_url: str, run_service: RunService, servers: RunningServers
) -> None:
    """Given a running service, then the kernel looks after each of its connections to Kafka and to its database, also
    while nobody speaks on it."""
    ports = {int(servers.kafka_bootstrap.rpartition(":")[2]), place_of(probe_url)[1]}
    with ExitStack() as copies:
        before = {own_port for own_port, _ in connections(copies)}
        async with run_service(build, name="probe", database_url=probe_url):

            def are_looked_after() -> bool:
                found = [one for own_port, one in connections(copies) if own_port not in before]
                ours = [one for one in found if one.getpeername()[1] in ports]
                assert {one.getpeername()[1] for one in ours} == ports
                return all(map(is_looked_after, ours))

            await eventually(are_looked_after, within=20)  # one may be about to be opened


def is_looked_after(one: socket.socket) -> bool:
    sent_ms, idle_s, asked_s, times = (
        one.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    is_asked = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) and idle_s + asked_s * times <= SOON_S
    return sent_ms == SENT_MS and bool(is_asked)


def connections(copies: ExitStack) -> Iterator[tuple[int, socket.socket]]:
    """Those of this process, with the port at its own end."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            one = copies.enter_context(socket.socket(fileno=os.dup(number)))
            if one.family == socket.AF_INET and one.getpeername():
                yield one.getsockname()[1], one


def failures() -> float:
    return float(CHUNK_RETRIES.labels(GROUP)._value.get())
