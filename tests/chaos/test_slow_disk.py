"""A slow disk makes flushes slow, and nothing of it is left."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from deploy.local import postgres
from deploy.local.ports import choose_port
from deploy.local.processes import Child, ProcessFile
from shared.clock import monotonic
from tests.chaos.slow_disk import FLUSH_MS, slow_disk
from tests.fixtures.eventually import eventually

PASSWORD = "simulated"
COMMITS = 5
pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Child, str]]:
    """A PostgreSQL of the test's own: a slow disk is everybody's who shares it."""
    postgres.prepare_postgres(tmp_path / "postgres", password=PASSWORD)
    settings = postgres.PostgresSettings(port=choose_port(), password=PASSWORD)
    record = ProcessFile(path=tmp_path / "processes.json")
    child = postgres.start_postgres(tmp_path / "postgres", settings, record_in=record)
    url = postgres.postgres_url(port=settings.port, password=PASSWORD)
    try:
        await postgres.wait_for_postgres(child, url)
        yield child, url
    finally:
        await child.stop()


def states(child: Child) -> set[str]:
    """Of the server and its children; one that ends while they are asked has none."""
    parent, found = psutil.Process(child.process.pid), set[str]()
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found.add(process.status())
    return found


async def commit(url: str) -> float:
    """Seconds that some commits take, each with something to flush."""
    async with AsyncExitStack() as opened:
        connection = await asyncpg.connect(url)
        opened.push_async_callback(connection.close)
        await connection.execute("create table if not exists filled (number int)")
        began = monotonic()
        for number in range(COMMITS):
            await connection.execute("insert into filled values ($1)", number)
        return monotonic() - began


async def test_each_commit_waits_for_the_disk_while_it_is_slow(server: tuple[Child, str]) -> None:
    child, url = server
    async with slow_disk(child.process.pid, url, chance=random.Random(1)):
        assert await commit(url) >= COMMITS * FLUSH_MS / 1000
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("show commit_delay") == "0"
    await connection.close()


async def test_the_disk_stops_answering_and_answers_again_whatever_ends_the_fault(server: tuple[Child, str]) -> None:
    child, url = server

    async def hurt() -> None:
        async with slow_disk(child.process.pid, url, chance=random.Random(2)):
            await asyncio.Event().wait()

    hurting = asyncio.create_task(hurt())
    await eventually(lambda: states(child) == {psutil.STATUS_STOPPED}, what="all of it is stopped")
    hurting.cancel()
    await asyncio.wait([hurting])
    assert psutil.STATUS_STOPPED not in states(child)
    assert await postgres.postgres_answers(url)
