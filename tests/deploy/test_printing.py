"""Given a narrow terminal or a pipe, when figures are shown, then none of them and no name is cut."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from deploy.cli.options import print_figures
from deploy.cli.reconcile import show
from deploy.cli.status import Part
from deploy.local.stack import Stack
from deploy.reconciliation.books import CLASSES
from deploy.reconciliation.reconcile import Line, Report
from tests.deploy.given_books import Books
from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.servers import RunningServers

GROUPS = ("notifications.conversations", "plans.activity")
PROBLEM = "the log holds 1234567 records, and this sentence [not markup] is longer than a line of eighty columns"


def report() -> Report:
    classes = {name: 1_234_560 + place for place, name in enumerate(CLASSES)}
    lines = [Line(group, "careloop.conversations", 0, 7_654_321, 7_654_322, classes, missing=42) for group in GROUPS]
    lines[1].problems.append(PROBLEM)
    figures = {"outbox_rows": 10_001, "overdue_timers": 0, "held_without_outcome": 0, "outcomes_without_held": 3}
    return Report(lines, dict.fromkeys(("plans", "notifications"), figures), [])


def shown(*, width: int, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, no_color=True, color_system=None)
    show(report(), to=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_reconcile_shows_every_figure_whole(width: int, terminal: bool) -> None:
    lines = shown(width=width, terminal=terminal)
    text = "\n".join(lines)
    assert "…" not in text
    for word in (*GROUPS, "7654321", "7654322", *(str(1_234_560 + place) for place in range(6)), "42", "10001"):
        assert text.count(word) >= 1, word
    assert [line for line in lines if line.endswith(PROBLEM)]


def test_a_pipe_gets_one_line_a_group() -> None:
    (line,) = [line for line in shown(width=80, terminal=False) if GROUPS[0] in line]
    assert line.split("│")[1:-1] == [f" {cell} " for cell in (GROUPS[0], "7654321", "7654322", *_classes(), "     42")]


def _classes() -> list[str]:
    return [str(1_234_560 + place).rjust(len(name)) for place, name in enumerate(CLASSES)]


def test_a_narrow_terminal_gets_lines_that_fit() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=True, no_color=True, color_system=None)
    print_figures(
        ("group", "in log", "read", "dead", "missing"), [("plans.activity", 7_654_321, 7_654_322, 0, 42)], to=console
    )
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "plans.activity",
        "  in log 7654321, read 7654322, dead 0,",
        "  missing 42",
    ]


async def test_the_commands_say_in_a_pipe_what_they_found(books: Books, tmp_path: Path) -> None:
    write_stack(tmp_path, servers=books.servers, namespace=books.namespace, databases={"plans": books.url})
    told = await careloop("reconcile", data=tmp_path)
    assert told.exit_code == 0, told.output
    (line,) = [line for line in told.stdout.splitlines() if "plans.activity" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["plans.activity", *"552001110"]
    listed = await careloop("positions", "list", data=tmp_path)
    (line,) = [line for line in listed.stdout.splitlines() if "plans.activity" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["plans.activity", "careloop.activity", *"055111"]


async def test_what_is_wrong_stands_whole_in_one_line_of_a_pipe(
    servers: RunningServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "not ready: [plans.activity: 2 partitions paused, the position lies outside the log]"

    async def ask(stack: Stack) -> list[Part]:
        return [Part(name="plans", ok=False, detail=why, pid=7)]

    monkeypatch.setattr("deploy.cli.status.ask_all", ask)
    write_stack(tmp_path, servers=servers, namespace="unused", databases={})
    told = await careloop("status", data=tmp_path)
    assert told.exit_code == 1
    (line,) = (line for line in told.stdout.splitlines() if "ALARM" in line)
    assert why in line
