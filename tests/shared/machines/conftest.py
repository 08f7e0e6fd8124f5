"""`probe_books`: URL of a database with the probe's tables, and nobody at it."""

import pytest

from shared.migrating import migrate
from tests.fixtures.databases import DatabaseFactory
from tests.shared.delivery.probe import add_tables


@pytest.fixture
async def probe_books(database: DatabaseFactory) -> str:
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    return url
