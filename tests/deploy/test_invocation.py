"""The commands that are printed can be run as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import invocation
from deploy.local.invocation import careloop_command
from deploy.local.problems import LocalProblem
from deploy.local.stack import running_stack


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with its own environment, whose folder has a space; nothing is on the PATH."""
    folder = tmp_path / "my clone"
    (folder / ".venv" / "bin").mkdir(parents=True)
    script = folder / ".venv" / "bin" / "careloop"
    script.write_text("#!/bin/sh\necho called with $#\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", "")
    return folder


def test_it_is_named_as_seen_from_where_the_reader_is(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", str(venv))
    assert careloop_command("down", "--data", "/srv/data") == ".venv/bin/careloop down --data /srv/data"
    for elsewhere in ("/", "/usr"):
        monkeypatch.setenv("PWD", elsewhere)
        printed = careloop_command("down", "--data", "/srv/all data")
        ran = subprocess.run(["/bin/sh", "-c", printed], capture_output=True, text=True, check=True)
        assert ran.stdout == "called with 3\n"


def test_where_the_path_finds_it_its_name_is_enough(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(venv / ".venv" / "bin"))
    assert careloop_command("status") == "careloop status"


def test_another_copy_on_the_path_is_not_this_one(venv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "careloop"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PWD", str(venv))
    assert careloop_command("status") == ".venv/bin/careloop status"


def test_a_command_without_a_stack_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "_program", lambda: ".venv/bin/careloop")
    with pytest.raises(LocalProblem, match=rf"start one with `\.venv/bin/careloop up --data {tmp_path}`\."):
        running_stack(tmp_path)
