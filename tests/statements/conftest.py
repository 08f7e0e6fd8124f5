"""`open_desk`: a service's books on a database of their own."""

from collections.abc import AsyncIterator, Sequence

import pytest

from shared.database import open_database
from shared.subscriptions import Subscription
from tests.fixtures.databases import DatabaseFactory
from tests.statements.chunks import Desk, OpenDesk, subscriptions_of, timers_of


@pytest.fixture
async def open_desk(database: DatabaseFactory) -> AsyncIterator[OpenDesk]:
    pools = []

    async def make(service: str, subscriptions: Sequence[Subscription] | None = None) -> Desk:
        pool = await open_database(await database(service), connections=2, application="test")
        pools.append(pool)
        own = subscriptions_of(service) if subscriptions is None else subscriptions
        desk = Desk(service, pool, own, timers_of(service))
        await desk.open()
        return desk

    yield make
    for pool in pools:
        await pool.close()
