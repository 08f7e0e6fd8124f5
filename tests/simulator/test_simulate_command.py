"""`careloop simulate` says in one sentence what is wrong, and publishes what its population's name says."""

import hashlib
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.simulator.backlog import backlog, first_of
from deploy.simulator.people import Cohort
from deploy.simulator.stream import stream_bytes


def test_without_a_running_stack_it_says_so(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["simulate", "--data", str(tmp_path), "--members", "3"])
    assert answer.exit_code == 1
    assert "No stack runs on" in answer.stderr
    assert "Traceback" not in answer.output


@pytest.mark.parametrize("wrong", [["--members", "0"], ["--days", "0"], ["--seed", "-1"], ["--via", "pigeon"]])
def test_values_that_make_no_sense_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    assert CliRunner().invoke(app, ["simulate", "--data", str(tmp_path), *wrong]).exit_code == 2


def test_a_backlog_is_the_days_of_its_population_and_no_more() -> None:
    cohort = Cohort(seed=4, members=10, days=9, starts_on=date(2026, 11, 1))
    sent = backlog(cohort)
    assert len([p for p in sent if p.kind == "intake"]) == 10
    assert all(p.at < cohort.starts_at + timedelta(days=9) for p in sent)
    digests = {hashlib.sha256(b"".join(stream_bytes(iter(backlog(cohort))))).hexdigest() for _ in range(2)}
    assert len(digests) == 1


def test_the_first_failure_is_told_not_the_group() -> None:
    reason = ConnectionError("away")
    assert first_of(ExceptionGroup("all", [ExceptionGroup("some", [reason]), ValueError()])) is reason
