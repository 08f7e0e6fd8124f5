"""Given the process that lets populations live on, when there is nobody, or somebody whom the issuer does not know."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import httpx
import pytest

from deploy.local.issuer.keys import load_client_secret
from deploy.local.ports import choose_port
from deploy.local.programs import ROOT, population_program
from deploy.local.stack import Stack
from deploy.simulator.diary import DIARY_FILE, CohortEntry, save_entry
from deploy.simulator.people import Cohort
from tests.deploy.given_stack import write_stack
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers

NOBODY = CohortEntry.new(Cohort(seed=1, members=0, days=1, starts_on=date(2026, 1, 1)), via="http")


@asynccontextmanager
async def running(*command: str, log: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def stack(servers: RunningServers, namespace: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """With a real issuer that knows nobody."""
    port, folder = choose_port(), tmp_path / "issuer"
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{url}/health/live")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    env = {"CARELOOP_ISSUER_DATA": str(folder), "CARELOOP_ISSUER_PORT": str(port)}
    async with running(sys.executable, "-m", "deploy.local.issuer", log=tmp_path / "issuer.log", **env):
        await eventually(answers, what="the issuer answers")
        load_client_secret(folder)
        databases = {"messaging": "", "enrollment": "", "plans": ""}
        yield write_stack(
            tmp_path, servers=servers, namespace=namespace, databases=databases, issuer_url=url, issuer_data=folder
        )


@pytest.fixture
async def population(stack: Stack) -> AsyncIterator[asyncio.subprocess.Process]:
    async with running(*population_program(stack.data).command, log=log_of(stack)) as process:
        yield process


def log_of(stack: Stack) -> Path:
    return stack.data / "population.log"


async def says(stack: Stack, words: str) -> None:
    await eventually(lambda: words in log_of(stack).read_text(), what=words)


async def ended(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), 30)


async def test_with_nobody_simulated_it_waits_quietly_and_ends_when_told(
    stack: Stack, population: asyncio.subprocess.Process
) -> None:
    await says(stack, "nobody is simulated here yet")
    population.send_signal(signal.SIGTERM)
    assert await ended(population) == 0
    assert len(log_of(stack).read_text().splitlines()) == 1


async def test_it_finds_who_comes_later_and_ends_with_an_error_where_its_staff_are_unknown(
    stack: Stack, population: asyncio.subprocess.Process
) -> None:
    await says(stack, "nobody is simulated here yet")
    save_entry(stack.simulation, NOBODY)
    await says(stack, "population 1-0-1 lives on")
    assert await ended(population) == 1
    assert log_of(stack).read_text().splitlines()[-1].startswith("careloop: HTTPStatusError(\"Client error '400")


async def test_a_damaged_diary_ends_it_with_its_one_sentence(
    stack: Stack, population: asyncio.subprocess.Process
) -> None:
    await says(stack, "nobody is simulated here yet")
    stack.simulation.mkdir(parents=True)
    (stack.simulation / DIARY_FILE).write_text("{")
    assert await ended(population) == 1
    last = log_of(stack).read_text().splitlines()[-1]
    assert last == f"careloop: {stack.simulation / DIARY_FILE} is damaged: move it away, and nobody lives on."
