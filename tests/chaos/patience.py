"""How a run itself asks a server that it may have hurt a moment ago: again and again, for a while."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from shared.database import Connection
from tests.fixtures.eventually import eventually

ANSWERS_S = 90.0
"""A server that was hurt answers again within this."""
CONNECTED_S = 5.0
UNANSWERED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a server that does not answer looks like. The last where it goes while it lets somebody in."""


def patient(condition: Any) -> Any:
    """A server that does not answer yet counts as not yet."""

    async def asked() -> bool:
        try:
            return bool(await condition())
        except UNANSWERED as error:
            raise AssertionError(f"{type(error).__name__}") from error

    return asked


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection of the run's own."""
    opened: list[asyncpg.Connection[asyncpg.Record]] = []

    async def opens() -> bool:
        opened.append(await asyncpg.connect(url, timeout=CONNECTED_S))
        return True

    await eventually(patient(opens), within=ANSWERS_S, what="a database lets the run in")
    try:
        yield opened[0]
    finally:
        with suppress(Exception):  # the server's own end of it is not the run's to wait for
            await opened[0].close(timeout=CONNECTED_S)
