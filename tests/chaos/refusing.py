"""PostgreSQL as it is when it answers and says no: to whoever writes, to whoever comes, in the middle of a statement.

Each begins with the block and ends with it. What was opened meanwhile stays as it was opened: a session on a host that
has become a standby does not move to another host by itself.
"""

import asyncio
import random
from collections.abc import AsyncIterator
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
"""Between what an operator does who ends whatever runs, again and again."""
ALTER: dict[FaultKind, tuple[str, str]] = {
    # As after a failover whose old host is still reached under its name: who connects can read.
    "read-only": ("set default_transaction_read_only = on", "reset default_transaction_read_only"),
    # Others have all the connections: nobody is let in.
    "crowded": ("with connection limit 0", "with connection limit -1"),
}
"""What is said of a database, and taken back."""


@asynccontextmanager
async def refusing(kind: FaultKind, url: str, name: str, seed: str) -> AsyncIterator[None]:
    """`url`: a superuser's; `name`: of the database."""
    async with connected(url) as connection:
        if kind == "cancelled":
            cancelling = asyncio.create_task(_cancel(connection, name, random.Random(seed)))
            try:
                yield
            finally:
                cancelling.cancel()
                await asyncio.wait([cancelling])
            return
        begin, end = ALTER[kind]
        await connection.execute(f'alter database "{name}" {begin}')
        try:
            await connection.execute(EVICT, name)
            yield
        finally:
            await connection.execute(f'alter database "{name}" {end}')


async def _cancel(connection: Connection, name: str, chance: random.Random) -> None:
    while True:
        with suppress(asyncpg.PostgresError):
            await connection.execute(CANCEL, name)
        await asyncio.sleep(chance.uniform(*CANCELS_S))
