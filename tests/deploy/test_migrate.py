"""What `careloop migrate` says of a database that does not answer."""

from pathlib import Path

import pytest

from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.servers import RunningServers


async def test_a_database_that_does_not_answer_is_said_so(
    servers: RunningServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(url: str, *, service: str) -> list[str]:
        raise TimeoutError  # as asyncpg does, which says nothing with it

    monkeypatch.setattr("deploy.cli.servers.migrate_database", silent)
    write_stack(tmp_path, servers=servers, namespace="unused", databases={"plans": "postgresql://unused"})
    answer = await careloop("migrate", data=tmp_path)
    assert (answer.exit_code, answer.stderr) == (1, "careloop: The migration failed: TimeoutError.\n")
