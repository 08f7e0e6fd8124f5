"""`careloop up` as its user runs it: four real services on three real servers, and a population small enough to wait
for. Then the quickstart, word for word, a stop, and a kill of everything."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from deploy.local.processes import ProcessFile, is_running
from deploy.local.stack import SERVICES, Stack, load_stack

ROOT = Path(__file__).parents[2]
PORTS = ("messaging", "enrollment", "plans", "notifications", "issuer", "mail", "smtp", "kafka", "postgres", "valkey")
DEFAULT_PORTS = {"8400": "messaging", "8401": "enrollment", "8402": "plans", "8403": "notifications"}
ALL = {"kafka", "postgres", "valkey", "issuer", "mail_sink", "population", *SERVICES}

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]


@dataclass(frozen=True)
class Careloop:
    """The command, on one data directory."""

    data: Path

    def __call__(self, *arguments: str, limit_s: float = 300) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=limit_s
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deploy.cli.main", *arguments, "--data", str(self.data)]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CARELOOP_")}
        ports = {f"CARELOOP_{name.upper()}_PORT": "0" for name in PORTS}
        return {**kept, **ports, "CARELOOP_POPULATION_MEMBERS": "6", "CARELOOP_POPULATION_WEEKS": "2"}

    def tell(self, *arguments: str) -> Any:
        """What a command prints for machines; it must succeed."""
        told = self(*arguments, "--json")
        assert told.returncode == 0, told.stdout + told.stderr
        return json.loads(told.stdout)

    def stack(self) -> Stack:
        stack = load_stack(self.data)
        assert stack is not None
        return stack

    def pids(self) -> dict[str, int]:
        entries = ProcessFile(path=self.data / "processes.json").load().entries
        return {name: entry.pid for name, entry in entries.items() if is_running(entry)}


@pytest.fixture
def careloop() -> Iterator[Careloop]:
    with tempfile.TemporaryDirectory(prefix="careloop up ") as folder:
        careloop = Careloop(Path(folder) / "data")
        yield careloop
        if (careloop.data / "stack.json").exists():
            kill(careloop)


def kill(careloop: Careloop) -> None:
    """kill -9 of everything, the supervisor first."""
    pids = list(careloop.pids().values())
    if careloop.stack().is_supervised():
        pids.insert(0, careloop.stack().supervisor_pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)


def quickstart(careloop: Careloop, member: str) -> str:
    """All commands of the quickstart, with this stack's addresses for those of `make up`."""
    stack, blocks = careloop.stack(), re.findall(r"```bash\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(), re.S)
    assert len(blocks) == 5
    text = "set -euo pipefail\n" + "\necho\n".join(blocks)
    for port, service in DEFAULT_PORTS.items():
        text = text.replace(f"http://127.0.0.1:{port}", stack.services[service].url)
    text = text.replace("http://127.0.0.1:8404", stack.issuer_url).replace("127.0.0.1:8492", stack.kafka_bootstrap)
    return text.replace("MEMBER=...", f"MEMBER={member}", 1).replace(".careloop/", f"'{careloop.data}'/")


def members_with_plans(careloop: Careloop) -> list[str]:
    async def find() -> list[str]:
        connection = await asyncpg.connect(careloop.stack().services["plans"].database_url)
        try:
            return [str(row[0]) for row in await connection.fetch("select member_id from care_plans order by 1")]
        finally:
            await connection.close()

    return asyncio.run(find())


def reconciled(careloop: Careloop) -> dict[str, Any]:
    """Its answer once everything has come to rest: people live on while it is asked."""
    deadline = time.monotonic() + 60
    while True:
        told = careloop("reconcile", "--json")
        answer: dict[str, Any] = json.loads(told.stdout)
        if told.returncode == 0:
            return answer
        assert time.monotonic() < deadline, told.stdout


def test_the_whole_life_of_a_stack(careloop: Careloop) -> None:
    first = careloop("up", "--detach")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "playing 2 weeks of a simulated population" in first.stdout
    assert careloop.stack().console_url in first.stdout
    stops = f"down --data {shlex.quote(str(careloop.data))}` from elsewhere, stops all of it."
    assert stops in first.stdout, "all of the announcement"
    assert set(careloop.pids()) == ALL
    careloop.tell("status")

    members = members_with_plans(careloop)
    assert len(members) >= 3
    script = quickstart(careloop, members[0])
    ran = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    chain = wait_for_own_events(careloop, members[0])
    assert {entry["event_type"] for entry in chain} == {"session.completed", "pain.reported"}
    reconciled(careloop)

    stopped = careloop("down")
    assert (stopped.returncode, careloop.pids()) == (0, {}), stopped.stdout
    second = careloop("up", "--detach")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "playing" not in second.stdout, "a second start does not play anybody in again"
    assert own_events(careloop, members[0]) == chain

    kill(careloop)
    assert careloop.pids() == {}
    third = careloop("up", "--detach")
    assert third.returncode == 0, third.stdout + third.stderr
    assert own_events(careloop, members[0]) == chain
    reconciled(careloop)
    began = time.monotonic()
    os.kill(careloop.stack().supervisor_pid, signal.SIGINT)
    while careloop.stack().is_supervised():
        assert time.monotonic() - began < 15, careloop.pids()
        time.sleep(0.05)
    assert careloop.pids() == {}


def own_events(careloop: Careloop, member: str) -> list[dict[str, Any]]:
    told = careloop.tell("why", "--member", member)
    return [entry for entry in told if entry["source"] == "urn:example:app"]


def wait_for_own_events(careloop: Careloop, member: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(found := own_events(careloop, member)) < 2:
        assert time.monotonic() < deadline, found
    return found
