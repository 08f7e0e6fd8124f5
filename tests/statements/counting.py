"""Counts what is sent to the database: BEGIN, savepoints and COMMIT too, for each is a round trip."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.database import Connection, Database

OF_THE_DRIVER = ("typeinfo_tree", "current_setting('jit')", "set_config('jit'", "pg_advisory_unlock_all")
"""Once in the life of a connection it asks what a type is, and it cleans up each that is given back: not ours."""


@dataclass(slots=True)
class Counted:
    """The statements of one batch."""

    texts: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.texts.total()

    def repeated(self, *, more_than: int) -> list[str]:
        """Texts that were run more often: what a loop looks like."""
        return [
            f"{count} times {' '.join(text.split())[:80]}" for text, count in self.texts.items() if count > more_than
        ]

    def note(self, record: Any) -> None:
        text = str(record.query)
        if any(word in text for word in OF_THE_DRIVER):
            return
        # `executemany` sends one statement for each of its rows, and is given a list of them.
        self.texts["savepoint" if "SAVEPOINT" in text else text] += (
            1 if isinstance(record.args, tuple) else len(record.args)
        )


def bare(connection: Connection) -> Any:
    """The connection itself, which a pool lends in a proxy."""
    return getattr(connection, "_con", connection)


@asynccontextmanager
async def counting(connection: Connection) -> AsyncIterator[Counted]:
    """What this connection sends while the block runs."""
    counted = Counted()
    with bare(connection).query_logger(counted.note):
        yield counted
        await asyncio.sleep(0)  # the driver tells in the next turn of the loop


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[tuple[Connection, Counted]]:
    """A transaction and what it sends, its begin and commit counted."""
    async with database.acquire() as connection, counting(connection) as counted, connection.transaction():
        yield connection, counted
