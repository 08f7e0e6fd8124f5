"""Of two builds of one Python, the environment is made with the quicker one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import quicker_python
from deploy.local.quicker_python import BUILD, VERSION, choose, find_interpreters, seconds_for_loop

SCRIPT = Path(quicker_python.__file__)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"a": 0.10, "b": 0.05, "c": 0.07}, "b"),
        ({"a": 0.10, "b": 0.095}, "a"),  # no tenth quicker: the one that is found first
        ({"a": 0.10, "b": 0.20}, "a"),
        ({"a": 0.10, "b": None}, "a"),
        ({"a": None, "b": 0.20, "c": 0.10}, "c"),
        ({"a": None, "b": None}, "a"),  # whoever asked tells what it lacks
    ],
)
def test_another_one_has_to_be_worth_it(seconds: dict[str, float | None], chosen: str) -> None:
    assert choose(list(seconds), seconds.__getitem__) == chosen


def test_a_slow_moment_of_the_machine_decides_nothing() -> None:
    slow_at_first = {"a": iter([0.1, 0.1, 0.1]), "b": iter([0.3, 0.05, 0.3])}
    assert choose(list(slow_at_first), lambda one: next(slow_at_first[one])) == "b"


def test_one_that_does_not_answer_is_asked_once() -> None:
    answers = {"a": iter([0.1, 0.1, 0.1]), "b": iter([None])}
    assert choose(list(answers), lambda one: next(answers[one])) == "a"


def test_where_there_is_one_nothing_is_timed() -> None:
    assert choose(["a"], lambda _: pytest.fail("it was timed")) == "a"


def test_a_real_one_is_timed() -> None:
    assert (seconds_for_loop(sys.executable) or 0) > 0


@pytest.mark.parametrize(
    "says",
    ["exit 1", "echo", "echo cpython-2.7 0.001", f"echo {BUILD} quick", f"echo pypy-{VERSION} 0.001", "kill -9 $$"],
)
def test_one_that_does_not_run_or_is_another_python_is_none(tmp_path: Path, says: str) -> None:
    assert seconds_for_loop(str(_program(tmp_path, says))) is None


def test_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert seconds_for_loop(str(tmp_path / "python")) is None


def test_each_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    for folder in (first, second, third):
        folder.mkdir()
    _program(first, "true")
    (second / f"python{VERSION}").symlink_to(first / f"python{VERSION}")
    (third / f"python{VERSION}").write_text("not executable")
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, (first, second, third, tmp_path / "nowhere"))))
    assert find_interpreters() == [sys.executable, str(first / f"python{VERSION}")]


def test_the_script_prints_the_one_that_is_quicker(tmp_path: Path) -> None:
    quick = _program(tmp_path, f"echo {BUILD} 0.000001")
    printed = subprocess.run(
        [sys.executable, SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"{quick}\n"


def _program(folder: Path, says: str) -> Path:
    path = folder / f"python{VERSION}"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path
