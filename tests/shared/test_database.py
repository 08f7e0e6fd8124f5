"""What is tried again for ever, and what is somebody's bug."""

import re
import socket
from pathlib import Path

import asyncpg
import pytest

from shared.database import LIMITS, is_transient, open_database
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually


@pytest.mark.parametrize(
    ("error", "world"),
    [
        (ConnectionRefusedError(), True),
        (socket.gaierror(), True),
        (OSError(113, "No route to host"), True),
        (TimeoutError(), True),
        (asyncpg.QueryCanceledError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (IsADirectoryError(), False),
        (NotADirectoryError(), False),
        (FileExistsError(), False),
        (asyncpg.DataError(), False),
        (KeyError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_file_that_is_not_there_is_no_failure_of_the_world(error: Exception, world: bool) -> None:
    assert is_transient(error) is world


async def test_a_transaction_left_open_ends_when_its_connection_is_given_back(database: DatabaseFactory) -> None:
    pool = await open_database(await database(None), connections=2, application="test")
    async with pool.acquire() as connection:
        await connection.execute("begin; create table left_open (one int)")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("select to_regclass('left_open')") is None
    await pool.close()


@pytest.mark.parametrize("stopped", ["between statements", "preparing one"])
async def test_a_process_that_stops_inside_a_transaction_holds_nothing_for_long(
    stopped: str, database: DatabaseFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the driver prepares a statement the server does not take the session for idle. A second is a twentieth."""
    for limit in ("idle_in_transaction_session_timeout", "transaction_timeout"):
        monkeypatch.setitem(LIMITS, limit, f"{int(LIMITS[limit].removesuffix('s')) * 50}ms")
    url = await database(None)
    pool, watch = await open_database(url, connections=2, application="test"), await asyncpg.connect(url)
    connection = await pool.acquire()
    await connection.execute("create table held (one int)")
    await connection.execute("begin; lock table held")
    if stopped == "preparing one":
        await connection.prepare("select 1")

    async def free() -> bool:
        return not await watch.fetchval("select count(*) from pg_locks where relation = 'held'::regclass")

    await eventually(free, within=10)
    await watch.close()
    pool.terminate()


def test_nothing_changes_a_session_for_longer_than_its_transaction() -> None:
    """A connection goes back to its pool as it is: what lasted longer would be the next user's."""
    root = Path(__file__).parents[2]
    sources = [path for folder in ("shared", "services") for path in (root / folder).rglob("*.py")]
    found = [f"{path.name}: {line}" for path in sources for line in lasting(path.read_text("utf-8"))]
    assert found == ["migrating.py: pg_advisory_lock("]  # on a connection of its own


@pytest.mark.parametrize(
    "line",
    [
        '"set timezone = $1"',
        "\"select set_config('lock_timeout', $1, false)\"",
        '"listen news"',
        '"declare c cursor with hold"',
    ],
)
def test_what_lasts_is_seen(line: str) -> None:
    assert lasting(line)


def lasting(source: str) -> list[str]:
    return re.findall(
        r"""["']set (?!local)\w+|set_config\([^)]*,\s*false\)|pg_(?:try_)?advisory_lock\(|["']listen |with hold""",
        source,
    )
