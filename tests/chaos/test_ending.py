"""A run that is told to end takes its servers and services with it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
MARK = "MARK_OF_A_RUN"


def left_of(mark: str) -> list[str]:
    """Processes that were started by the run, by what they inherited from it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(" ".join(process.cmdline())[:120])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_is_ended_from_elsewhere_leaves_nothing(tmp_path: Path) -> None:
    mark = str(tmp_path)
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "--minutes", "5", "--seed", "1"],
        cwd=ROOT, env={**os.environ, MARK: mark, "TMPDIR": mark}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.stdout is not None
    try:
        said = next((line for line in run.stdout if "the stream begins" in line), "")
        assert said, "it ended before it began"
        assert len(left_of(mark)) > 4, "its servers and services run"
        run.terminate()
        rest, _ = run.communicate(timeout=120)
        assert run.returncode == 1
        assert "ended before its time" in rest
        assert left_of(mark) == []
    finally:
        run.kill()
        for process in psutil.process_iter():
            if process.pid != os.getpid() and any(mark in part for part in _command(process)):
                process.kill()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
