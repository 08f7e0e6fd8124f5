"""What is tried again for ever, and what is somebody's bug."""

import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from shared.database import LIMITS, Connection, is_transient, open_database
from shared.inbox import take_into_inbox
from shared.migrating import migrate
from shared.relay import DELETE
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually

ROWS_READ = """
select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_user_tables
where relname in ('inbox', 'outbox')
"""
FILL_OUTBOX = """
insert into delivery.outbox (outbox_id, topic, member_id, value, created_at) overriding system value
select number, 'careloop.plans', gen_random_uuid(), '', $2 from generate_series(1, $1) as number
"""


@pytest.mark.parametrize(
    ("error", "world"),
    [
        (ConnectionRefusedError(), True),
        (socket.gaierror(), True),
        (OSError(113, "No route to host"), True),
        (TimeoutError(), True),
        (asyncpg.QueryCanceledError(), True),
        (asyncpg.ReadOnlySQLTransactionError(), True),
        (asyncpg.InvalidPasswordError(), True),
        (asyncpg.InvalidCatalogNameError(), True),
        (asyncpg.InsufficientPrivilegeError(), True),
        (asyncpg.DiskFullError(), True),
        (asyncpg.PostgresIOError(), True),
        (asyncpg.InvalidCachedStatementError(), True),
        (asyncpg.InvalidSQLStatementNameError(), True),
        (asyncpg.PostgresError.new({"C": "54000", "M": "no commands", "R": "GetNewTransactionId"}), True),
        (asyncpg.PostgresError.new({"C": "54000", "M": "index row size", "R": "index_form_tuple"}), False),
        (ssl.SSLCertVerificationError(), True),
        (asyncpg.UndefinedTableError(), False),
        (asyncpg.CheckViolationError(), False),
        (FileNotFoundError(), False),
        (PermissionError(1, "Operation not permitted"), True),
        (PermissionError(13, "Permission denied", "rules.yaml"), False),
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


async def test_a_pool_leaves_a_server_that_can_only_be_read(database: DatabaseFactory) -> None:
    """Given connections to a host that had become a standby, when its name means one that takes writes again, then the
    pool writes, although nobody has ended a connection."""
    url = await database(None)
    owner = await asyncpg.connect(url)
    name = await owner.fetchval("select current_database()")
    await owner.execute("create table written (number int)")
    await owner.execute(f'alter database "{name}" set default_transaction_read_only = on')
    pool = await open_database(url, connections=3, application="test")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("insert into written values (1)")
    await owner.execute(f'alter database "{name}" reset default_transaction_read_only')
    for number in range(2, 9):
        await pool.execute("insert into written values ($1)", number)
    await pool.close()
    await owner.close()


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


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])  # as the relay has it, and as a chunk does
async def test_a_plan_that_was_made_while_a_table_was_empty_does_not_read_all_of_it_later(
    database: DatabaseFactory, mode: str
) -> None:
    """Given statements that were planned on an inbox and an outbox known to be empty, when these have filled before
    anybody counted their rows, then they still look up what they are asked for."""
    url = await database(None)
    await migrate(url, service="probe")
    pool = await open_database(url, connections=2, application="test")
    many, few, created = 5_000, 10, datetime(2026, 1, 1, tzinfo=UTC)

    async def take(connection: Connection, numbers: range) -> None:
        identities = [number.to_bytes(16) for number in numbers]
        await take_into_inbox(
            connection, group="g", topic="t", identities=identities, digests=identities, member_ids=[uuid4()]
        )

    async def delete(connection: Connection, numbers: range) -> str:
        return await connection.execute(DELETE, list(numbers), [created] * len(numbers))

    async def rows_read(connection: Connection) -> int:
        await connection.execute("select pg_stat_force_next_flush()")
        return int(await connection.fetchval(ROWS_READ))

    async with pool.acquire() as connection:
        await connection.execute(f"set plan_cache_mode = {mode}")
        for table in ("inbox", "outbox"):
            await connection.execute(f"vacuum analyze delivery.{table}")
        for number in range(10):  # a plan for all values is made at the sixth
            await take(connection, range(number, number + 1))
            await delete(connection, range(number, number + 1))
        await take(connection, range(1_000, 1_000 + many))
        await connection.execute(FILL_OUTBOX, many, created)
        before = await rows_read(connection)
        await take(connection, range(1_000, 1_000 + few))
        assert await delete(connection, range(1, 1 + few)) == f"DELETE {few}"
        assert await rows_read(connection) - before <= 5 * few
    await pool.close()
