"""Forward-only migrations: shared/migrations first, then the service's own, each once, in order of number.

Takes an advisory lock, so that several starts at once apply each file once. A file that was applied and then edited
stops the migration with an error: history is not rewritten.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shared.database import Connection

ROOT = Path(__file__).resolve().parent.parent
LOCK_KEY = 7_310_579_201
FILE_NAME = re.compile(r"^\d{4}_[a-z0-9_]+\.sql$")


class MigrationError(Exception):
    """The database and the migration files do not agree; the text says which file."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    name: str
    """`shared/0001_create_delivery` or `plans/0001_create_care_plans`."""
    sql: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def list_migrations(service: str) -> list[Migration]:
    """All migrations of a service in the order in which they are applied."""
    found: list[Migration] = []
    for owner, folder in (("shared", ROOT / "shared/migrations"), (service, ROOT / f"services/{service}/migrations")):
        for file in sorted(folder.glob("*.sql")):
            if not FILE_NAME.match(file.name):
                raise MigrationError(f"{file.name}: a migration is named NNNN_verb_noun.sql")
            found.append(Migration(name=f"{owner}/{file.stem}", sql=file.read_text()))
    return found


async def migrate(database_url: str, *, service: str) -> list[str]:
    """Bring a service's database up to date; the names applied now. Each file is one transaction."""
    connection = await asyncpg.connect(database_url, timeout=30)
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK_KEY)
        await connection.execute(
            "create table if not exists public.migrations (name text primary key, digest text not null,"
            " applied_at timestamptz not null default clock_timestamp())"
        )
        rows = await connection.fetch("select name, digest from public.migrations")
        applied = {row["name"]: row["digest"] for row in rows}
        pending: list[str] = []
        for migration in list_migrations(service):
            if migration.name in applied:
                if applied[migration.name] != migration.digest:
                    raise MigrationError(f"{migration.name} was edited after it had been applied")
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into public.migrations (name, digest) values ($1, $2)", migration.name, migration.digest
                )
            pending.append(migration.name)
        return pending
    finally:
        await connection.close()


async def missing_migrations(connection: Connection, *, service: str) -> list[str]:
    """Names of this service's migrations that its database does not have yet; all of them on an empty database."""
    if not await connection.fetchval("select to_regclass('public.migrations') is not null"):
        return [migration.name for migration in list_migrations(service)]
    applied = {row["name"] for row in await connection.fetch("select name from public.migrations")}
    return [migration.name for migration in list_migrations(service) if migration.name not in applied]
