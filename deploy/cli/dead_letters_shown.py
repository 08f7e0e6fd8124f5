"""How `careloop dead-letters` shows what it found and did."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.options import print_figures
from deploy.dead_letters.running import Action, Done
from shared.clock import monotonic
from shared.replaying import Fate

BAR_AFTER_S = 1.0
FATES_SHOWN = 200


class Bar:
    """A progress bar that comes only when the work takes over a second."""

    def __init__(self, console: Console, *, hidden: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("dead letters", total=0)
        self._hidden, self._began, self._shown, self._total = hidden, monotonic(), False, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def expect(self, dead_letters: int) -> None:
        self._total += dead_letters
        self._progress.update(self._task, total=self._total)

    def step(self) -> None:
        self._progress.advance(self._task)
        self._appear()

    def events(self, taken: int) -> None:
        self._progress.update(self._task, description=f"dead letters ({taken} events taken)")
        self._appear()

    def _appear(self) -> None:
        if not self._shown and not self._hidden and monotonic() - self._began > BAR_AFTER_S:
            self._shown = True
            self._progress.start()


def show_list(console: Console, rows: list[dict[str, Any]], *, limit: int) -> None:
    headings = (
        "id",
        "service",
        "group",
        "topic",
        "place",
        "state",
        "reason",
        "detail",
        "held since",
        "behind",
        "replays",
    )
    cells = [
        (
            row["id"], row["service"], row["group"], row["topic"], f"{row['partition']}/{row['offset']}", row["state"],
            row["reason"], row["detail"] or "", _when(row["held_at"]), row["behind"], row["replays"],
        )
        for row in rows
    ]  # fmt: skip
    _print(console, headings, cells)
    for service, count in Counter(row["service"] for row in rows).items():
        if count == limit:
            last = max(row["id"] for row in rows if row["service"] == service)
            console.print(f"There may be more of {service}: --service {service} --after {last}", highlight=False)


def show_summary(console: Console, rows: list[dict[str, Any]]) -> None:
    names = ("service", "group", "state", "reason", "events", "oldest", "bytes")
    _print(console, names, [[_cell(row[name]) for name in names] for row in rows])


def show_queues(console: Console, rows: list[dict[str, Any]]) -> None:
    names = ("service", "group", "topic", "member", "events", "head", "oldest", "bytes")
    _print(console, names, [[_cell(row[name]) for name in names] for row in rows])


def show_one(console: Console, found: dict[str, Any]) -> None:
    for name, value in found.items():
        if value is None and name != "payload":
            continue
        said = _when(value) if name.endswith("_at") and value is not None else value
        said = json.dumps(said, indent=2, ensure_ascii=False) if isinstance(said, dict | list) else said
        console.print(f"{name.replace('_', ' '):<13}{said}", markup=False, highlight=False, soft_wrap=True)


def show_done(console: Console, done: list[Done], *, action: Action, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": not any(one.failed for one in done), "dry_run": dry_run, "done": _as_rows(done)}))
        return
    for one in done:
        console.print(_line(one, action, dry_run=dry_run), markup=False, highlight=False, soft_wrap=True)
        if dry_run:
            for fate in one.step.fates[:FATES_SHOWN]:
                console.print(f"    {fate.held_id}: {_fate(fate)}", markup=False, highlight=False, soft_wrap=True)
            hidden = len(one.step.fates) - FATES_SHOWN
            if hidden > 0:
                console.print(f"    and {hidden} more")
            if one.more:
                console.print("    and what stands behind them: a dry run looks at one queue for some seconds only")
    failed = sum(one.failed for one in done)
    taken = sum(one.step.taken for one in done)
    would = "would be " if dry_run else ""
    console.print(
        f"{len(done)} dead letters tried, {failed} still fail; {taken} events {would}taken."
        if action == "replay"
        else f"{sum(one.step.result == 'done' for one in done)} discarded; {taken} events behind them taken.",
        highlight=False,
    )


def _line(one: Done, action: Action, *, dry_run: bool) -> str:
    counted = Counter(fate.outcome for fate in one.step.fates if not fate.is_held)
    parts = [f"{count} {outcome}" for outcome, count in counted.items()]
    parts += [f"{fate.held_id} is {_fate(fate)}" for fate in one.step.fates if fate.is_held]
    if action == "discard" and one.step.result == "done":
        parts.insert(0, "discarded")
    if one.answer:
        parts.append(one.answer)
    if dry_run:
        parts.insert(0, "dry run")
    return f"{one.service} {one.held_id}: {'; '.join(parts)}"


def _fate(fate: Fate) -> str:
    return " ".join(part for part in (fate.outcome, fate.reason, f"({fate.detail})" if fate.detail else None) if part)


def _as_rows(done: list[Done]) -> list[dict[str, Any]]:
    return [
        {
            "service": one.service,
            "id": one.held_id,
            "result": one.step.result,
            "failed": one.failed,
            "answer": one.answer,
            "error": one.error,
            "taken": one.step.taken,
            "published": one.step.published,
            "more": one.more,
            "events": [asdict(fate) for fate in one.step.fates],
        }
        for one in done
    ]


def _print(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    if rows:
        print_figures(headings, rows, to=console)
    else:
        console.print("Nothing is held.")


def _cell(value: Any) -> str | int:
    if isinstance(value, datetime):
        return _when(value)
    return value if isinstance(value, int) else str(value)


def _when(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}"
