"""Given a database whose owner changed what sessions begin with, when a service opens it, then they are as its protocol
needs them: what is read after a lock was granted is what was committed before (docs/protocol.md, 25)."""

from urllib.parse import urlsplit

import asyncpg
import pytest

from shared.database import open_database
from tests.fixtures.databases import DatabaseFactory


@pytest.mark.parametrize(
    ("setting", "changed", "needed"),
    [("default_transaction_isolation", "repeatable read", "read committed"), ("synchronous_commit", "off", "on")],
)
async def test_what_the_protocol_rests_on_is_asked_for(
    database: DatabaseFactory, setting: str, changed: str, needed: str
) -> None:
    url = await database(None)
    connection = await asyncpg.connect(url)
    await connection.execute(f"alter database \"{urlsplit(url).path[1:]}\" set {setting} = '{changed}'")
    await connection.close()
    pool = await open_database(url, connections=2, application="test")
    found = await pool.fetchval(f"show {setting}")
    await pool.close()
    assert found == needed
