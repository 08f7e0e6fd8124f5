"""`careloop up --no-seed` as a program uses it: one JSON object, well with nobody in it, people may come later."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.given_stack import careloop as careloop_here
from tests.deploy.test_up import ROOT, Careloop, careloop  # noqa: F401  # the fixture

NOBODY, SOMEBODY = "nobody is simulated here yet", "population 7-2-1 lives on"


def population_says(careloop: Careloop, words: str) -> None:  # noqa: F811
    deadline = time.monotonic() + 60
    while words not in (log := (careloop.data / "logs" / "population.log").read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.05)


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_stack_without_a_population_is_well_and_somebody_may_come_later(careloop: Careloop) -> None:  # noqa: F811
    up = careloop("up", "--detach", "--no-seed", "--json")
    assert up.returncode == 0, up.stderr
    told: dict[str, Any] = json.loads(up.stdout)
    stack = careloop.stack()
    assert told == {
        "data": str(careloop.data),
        "console_url": stack.console_url,
        "mail_url": stack.mail_url,
        "issuer_url": stack.issuer_url,
        "kafka_bootstrap": stack.kafka_bootstrap,
        "services": {name: service.url for name, service in stack.services.items()},
        "people": [],
    }
    assert "Careloop runs." in up.stderr
    for url in (*told["services"].values(), told["console_url"]):
        assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == httpx.codes.OK
    population = careloop.pids()["population"]
    population_says(careloop, NOBODY)

    assert careloop.tell("simulate", "--members", "2", "--days", "1", "--seed", "7")["members"] == 2
    population_says(careloop, SOMEBODY)
    assert careloop.tell("status")["ok"]
    assert careloop.pids()["population"] == population, "it never ended"

    assert careloop.tell("down") == {"data": str(careloop.data), "stopped": True}
    assert careloop.tell("down") == {"data": str(careloop.data), "stopped": False}
    assert careloop.pids() == {}


async def test_down_where_nothing_ever_ran(tmp_path: Path) -> None:
    told = await careloop_here("down", "--json", data=tmp_path / "none")
    assert json.loads(told.stdout) == {"data": str(tmp_path / "none"), "stopped": False}
    told = await careloop_here("down", data=tmp_path / "none")
    assert told.stdout == f"Nothing runs on {tmp_path / 'none'}.\n"


def test_up_that_fails_tells_only_why(tmp_path: Path) -> None:
    for more in ([], ["--detach"]):
        command = [sys.executable, "-m", "deploy.cli.main", "up", "--json", "--data", str(tmp_path), *more]
        env = {**os.environ, "CARELOOP_PLANS_PORT": "none"}
        ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("careloop: the setting CARELOOP_PLANS_PORT is not valid: ")
        assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("up", "--detach"), ("status",), ("dead-letters", "list"), ("reconcile",)])
async def test_a_file_where_the_data_should_be_is_said_in_one_sentence(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    answer = await careloop_here(*command, data=tmp_path / "file")
    assert answer.exit_code == 1
    assert answer.stderr.startswith(f"careloop: {tmp_path / 'file'}")
    assert answer.stderr.count("\n") == 1
