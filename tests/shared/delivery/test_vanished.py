"""A host that went without a word, as before a failover: nobody says that the connections to it have ended."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from shared import database as databases
from shared.database import open_database
from shared.migrating import migrate
from shared.telemetry import CHUNK_RETRIES
from shared.vanishing import SENT_MS
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.lines import line_to
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import RunService
from tests.shared.delivery.books import GROUP, Books
from tests.shared.delivery.probe import add_tables, build, pain

CONNECTIONS = 6
SOON_S = 15


async def test_an_event_waits_for_one_connection_that_answers_no_more_not_for_each(
    database: DatabaseFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given connections on which nobody answers, when an event comes, then the first attempt tells that they are dead,
    and the next one is made on a new connection: each would keep it waiting for as long as an answer may take."""
    monkeypatch.setattr(databases, "ANSWER_S", 1.0)
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    server = urlsplit(url)
    assert server.hostname is not None
    assert server.port is not None
    async with line_to(server.hostname, server.port) as line:
        pool = await open_database(
            url.replace(f":{server.port}/", f":{line.port}/"), connections=CONNECTIONS, application="test"
        )
        async with AsyncExitStack() as all_at_once:
            for _ in range(CONNECTIONS):
                await all_at_once.enter_async_context(pool.acquire())
        books, member = Books(pool), uuid4()
        await books.open()
        assert line.lose() >= CONNECTIONS
        failed_before = failures()
        await asyncio.wait_for(books.take_as_the_runtime(books.write(pain(member, 3))), 60)
        assert await books.effects(member) == [3]
        assert failures() - failed_before == 1
        pool.terminate()


async def test_connections_notice_within_seconds_that_nobody_is_there(
    probe_url: str, run_service: RunService, servers: RunningServers
) -> None:
    """Given a running service, then the kernel looks after each of its connections to Kafka and to its database, also
    while nobody speaks on it."""
    ports = {int(servers.kafka_bootstrap.rpartition(":")[2]), urlsplit(probe_url).port}
    with ExitStack() as copies:
        before = {own_port for own_port, _ in connections(copies)}
        async with run_service(build, name="probe", database_url=probe_url):
            found = [one for own_port, one in connections(copies) if own_port not in before]
            ours = [one for one in found if one.getpeername()[1] in ports]
            assert {one.getpeername()[1] for one in ours} == ports
            for one in ours:
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SENT_MS
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                asked_s = 3 * one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + asked_s <= SOON_S


def connections(copies: ExitStack) -> Iterator[tuple[int, socket.socket]]:
    """Those of this process, with the port at its own end."""
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            one = copies.enter_context(socket.socket(fileno=os.dup(number)))
            if one.family == socket.AF_INET and one.getpeername():
                yield one.getsockname()[1], one


def failures() -> float:
    return float(CHUNK_RETRIES.labels(GROUP)._value.get())
