"""`connection`: to a database of plans in which nothing is known yet."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Connection, open_database
from tests.fixtures.databases import DatabaseFactory


@pytest.fixture
async def connection(database: DatabaseFactory) -> AsyncIterator[Connection]:
    pool = await open_database(await database("plans"), connections=2, application="test plans")
    async with pool.acquire() as connection:
        yield connection
    pool.terminate()
