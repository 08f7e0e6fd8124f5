"""A run that is told to end takes its servers and services with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos.ending import ENDED_EARLY, ENDED_EARLY_CODE

ROOT = Path(__file__).parents[2]
MARK = "MARK_OF_A_RUN"


def left_of(mark: str) -> list[psutil.Process]:
    """Processes that were started by the run, by what they inherited from it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_is_ended_from_elsewhere_leaves_nothing(tmp_path: Path) -> None:
    """Told twice, as by `timeout`, which signals `make` and what `make` started."""
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
        all_of_it = len(left_of(mark))
        deadline = time.monotonic() + 60
        while len(left_of(mark)) == all_of_it and time.monotonic() < deadline:
            pass  # until it has begun to end
        run.terminate()
        rest, _ = run.communicate(timeout=120)
        assert ENDED_EARLY in rest
        assert run.returncode == ENDED_EARLY_CODE
        assert left_of(mark) == []
    finally:
        run.kill()
        for process in left_of(mark):
            process.kill()
