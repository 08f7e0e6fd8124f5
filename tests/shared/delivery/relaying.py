"""A relay that runs while a test looks at what it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shared.database import Database
from shared.relay import Relay
from shared.settings import ServiceSettings


@contextlib.asynccontextmanager
async def relaying(settings: ServiceSettings, pool: Database) -> AsyncIterator[Relay]:
    relay = Relay(settings, pool)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
