"""Migrations: each file once, whoever starts beside whom, and none that is not what was applied."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from shared import migrating
from shared.migrating import MigrationError, list_migrations, migrate, missing_migrations
from tests.fixtures.databases import DatabaseFactory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the migrations of `probe` lie; there are no others."""
    made = tmp_path / "services/probe/migrations"
    made.mkdir(parents=True)
    monkeypatch.setattr(migrating, "ROOT", tmp_path)
    return made


async def missing(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return await missing_migrations(connection, service="probe")
    finally:
        await connection.close()


async def test_several_starts_at_once_apply_each_file_once(database: DatabaseFactory) -> None:
    """As the replicas of a service do that is installed; none of them fails because of the others."""
    url = await database(None)
    applied = await asyncio.gather(*(migrate(url, service="plans") for _ in range(4)))
    assert [name for names in applied for name in names] == [one.name for one in list_migrations("plans")]


async def test_a_file_that_was_edited_after_it_was_applied_stops_what_comes_behind_it(
    database: DatabaseFactory, folder: Path
) -> None:
    url = await database(None)
    first = folder / "0001_create_things.sql"
    first.write_text("create table things (name text);")
    assert await migrate(url, service="probe") == ["probe/0001_create_things"]
    first.write_text("create table things (name text not null);")
    (folder / "0002_create_others.sql").write_text("create table others (name text);")
    with pytest.raises(MigrationError, match="probe/0001_create_things was edited"):
        await migrate(url, service="probe")
    assert await missing(url) == ["probe/0002_create_others"]
    first.write_text("create table things (name text);")
    assert await migrate(url, service="probe") == ["probe/0002_create_others"]
    assert await missing(url) == []


async def test_what_fails_half_way_is_applied_whole_the_next_time(database: DatabaseFactory, folder: Path) -> None:
    url = await database(None)
    broken = folder / "0001_create_things.sql"
    broken.write_text("create table things (name text); create table things (name text);")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate(url, service="probe")
    assert await missing(url) == ["probe/0001_create_things"]
    broken.write_text("create table things (name text);")
    assert await migrate(url, service="probe") == ["probe/0001_create_things"]
