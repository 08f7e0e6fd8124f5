"""A service that cannot start yet leaves nothing behind with each attempt, and starts as soon as it can."""

from typing import Any

import pytest

import shared.service as service_module
from shared.database import Database, open_database
from shared.migrating import migrate
from tests.fixtures.databases import connected, with_database
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import RunService
from tests.shared.delivery.probe import build

SESSIONS = "select count(*) from pg_stat_activity where usename = $1"
ATTEMPTS = 6
OF_ONE_ATTEMPT = 2
"""Connections with which a pool begins."""


async def test_a_database_that_does_not_tell_its_migrations_is_not_filled_with_connections(
    servers: RunningServers, role: str, run_service: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a table of migrations that may not be read, or that somebody holds, then whoever else uses the server finds
    connections there."""
    attempts = list[str]()

    async def attempt(url: str, **how: Any) -> Database:
        attempts.append(url)
        return await open_database(url, **how)

    monkeypatch.setattr("shared.service.open_database", attempt)
    url = with_database(servers.postgres_url, database=role, user=role, password="first")
    await migrate(url, service="probe")
    async with connected(url) as owner, connected(servers.postgres_url) as admin:
        await owner.execute(f"revoke select on public.migrations from {role}")
        async with run_service(build, name="probe", database_url=url, wait=False) as running:
            await eventually(lambda: running.service.health.why.startswith("database: "), within=20)
            await eventually(lambda: len(attempts) >= ATTEMPTS, within=40, what="it has tried several times")
            assert await admin.fetchval(SESSIONS, role) <= 1 + OF_ONE_ATTEMPT
            await owner.execute(f"grant select on public.migrations to {role}")
            await eventually(lambda: running.service.relay is not None, within=20, what="it starts")


@pytest.mark.parametrize("begins", ["open_database", "build_broker"])
async def test_a_file_that_is_not_there_for_a_moment_keeps_no_service_from_starting(
    begins: str, probe_url: str, run_service: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given certificates that are exchanged while a service starts, then it starts when they are there again."""
    first = getattr(service_module, begins)
    attempts = list[str]()

    def begin(*arguments: Any, **how: Any) -> Any:
        attempts.append(begins)
        if len(attempts) == 1:
            raise FileNotFoundError("ca.pem")
        return first(*arguments, **how)

    monkeypatch.setattr(service_module, begins, begin)
    async with run_service(build, name="probe", database_url=probe_url, wait=False) as running:
        await eventually(lambda: running.service.health.started, within=20, what="it starts")
