"""PostgreSQL as it is when it answers and says no: to whoever writes, to whoever comes, in the middle of a statement.
Or when it has done what it was told, and does not say so.

Each begins with the block and ends with it. What was opened meanwhile stays as it was opened: a session on a host that
has become a standby does not move to another host by itself.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg

from shared.database import Connection
from tests.chaos.faults import FaultKind
from tests.chaos.patience import connected

EVICT = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()"
CANCEL = """
select pg_cancel_backend(pid) from pg_stat_activity where datname = $1 and state = 'active' and pid <> pg_backend_pid()
"""
CANCELS_S = (0.02, 0.2)
"""Between what is done again and again to whatever runs."""
ALTER: dict[FaultKind, tuple[str, str]] = {
    # As after a failover whose old host is still reached under its name: who connects can read.
    "read-only": ("set default_transaction_read_only = on", "reset default_transaction_read_only"),
    # Others have all the connections: nobody is let in.
    "crowded": ("with connection limit 0", "with connection limit -1"),
}
"""What is said of a database, and taken back."""
ALONE = ("alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
NOT_ALONE = ("alter system reset synchronous_standby_names", "select pg_reload_conf()")
"""Each commit waits for a standby that is not there: it is on the disk, and nobody is told."""
END_WAITING = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and wait_event = 'SyncRep'
"""
"""Then it counts, and whoever asked for it hears only that the connection is gone."""


@asynccontextmanager
async def refusing(kind: FaultKind, url: str, name: str, seed: str) -> AsyncIterator[None]:
    """`url`: a superuser's; `name`: of the database."""
    async with connected(url) as connection:
        if kind == "cancelled":
            async with _again_and_again(CANCEL, connection, name, seed):
                yield
            return
        if kind == "unheard":
            await _tell(connection, ALONE)
            try:
                async with _again_and_again(END_WAITING, connection, name, seed):
                    yield
            finally:
                await _tell(connection, NOT_ALONE)
            return
        begin, end = ALTER[kind]
        await connection.execute(f'alter database "{name}" {begin}')
        try:
            await connection.execute(EVICT, name)
            yield
        finally:
            await connection.execute(f'alter database "{name}" {end}')


async def _tell(connection: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        await connection.execute(statement)


@asynccontextmanager
async def _again_and_again(statement: str, connection: Connection, name: str, seed: str) -> AsyncIterator[None]:
    async def execute() -> None:
        chance = random.Random(seed)
        while True:
            with suppress(asyncpg.PostgresError):
                await connection.execute(statement, name)
            await asyncio.sleep(chance.uniform(*CANCELS_S))

    executing = asyncio.create_task(execute())
    try:
        yield
    finally:
        executing.cancel()
        await asyncio.wait([executing])
