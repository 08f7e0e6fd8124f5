"""Clinic time. The only place that reads a clock.

Two times, never mixed. Clinic time is for event times, due times and ages; machine time (monotonic) is for leases,
timeouts and backoff. In production clinic time is the wall clock. While a population is seeded, every process computes
the same `min(wall, limit, anchor + speed x elapsed)` from a small file, so that weeks of reminders and escalations are
lived through in minutes by the real system and no data lies in the future.
"""

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from prometheus_client import Counter

monotonic = time.monotonic
"""Machine time in seconds, for timeouts and backoff."""
HELD_MAX = timedelta(seconds=5)
"""The machine's clock may go back so far and clinic time stands still meanwhile. Longer would keep alive what a clock
that once was far ahead said: timers run early and events come from the future until the process ends."""
# Here and not in shared/telemetry.py, which shows it: what everything else is built on imports nothing of it.
CLOCK_STEPS_BACK = Counter(
    "careloop_clock_steps_back", "Times that the machine's clock was set back by more than is held still."
)
log = logging.getLogger("careloop.clock")


class Clock(Protocol):
    def now(self) -> datetime:
        """Clinic time, UTC; not earlier than the last answer of this clock, unless the machine's clock was set back."""
        ...


class WallClock:
    """Clinic time in production: the wall clock, never behind it and never ahead of it by more than HELD_MAX."""

    def __init__(self) -> None:
        self._latest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        machine = datetime.now(UTC)
        if self._latest - machine > HELD_MAX:
            CLOCK_STEPS_BACK.inc()
            log.warning("the clock of this machine was set back; clinic time follows it")
            self._latest = machine
        self._latest = max(self._latest, machine)
        return self._latest


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Clinic time runs from `clinic_at`, where the wall clock said `wall_at`, at `speed`, and holds at `limit_at`."""

    clinic_at: datetime
    wall_at: datetime
    speed: float
    limit_at: datetime | None = None

    def at(self, wall: datetime) -> datetime:
        end = wall if self.limit_at is None else min(wall, self.limit_at)
        elapsed_s = max(wall - self.wall_at, timedelta(0)).total_seconds() * self.speed
        # Compared before it is added: a stack that is left for months at a high speed would run past the last date.
        if elapsed_s >= (end - self.clinic_at).total_seconds():
            return end
        return self.clinic_at + timedelta(seconds=elapsed_s)


class AnchoredClock:
    """Clinic time from an anchor file that all processes of one stack share. No file means the wall clock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wall = WallClock()
        self._wall_at = datetime.min.replace(tzinfo=UTC)
        self._seen: tuple[int, int] | None = None
        self._anchor: Anchor | None = None
        self._latest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        wall, anchor = self._wall.now(), self._load()
        told = anchor.at(wall) if anchor else wall
        # Another anchor never takes clinic time back. A wall clock that was set back does: what it said before was
        # wrong, and the processes of a stack that did not look meanwhile never heard it.
        self._latest = told if wall < self._wall_at else max(self._latest, told)
        self._wall_at = wall
        return self._latest

    def _load(self) -> Anchor | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._anchor, self._seen = read_anchor(self._path), seen
        return self._anchor


def read_anchor(path: Path) -> Anchor:
    """The anchor in a file; ValueError when it is not one."""
    fields = json.loads(path.read_text())
    limit = fields["limit_at"]
    return Anchor(
        clinic_at=datetime.fromisoformat(fields["clinic_at"]),
        wall_at=datetime.fromisoformat(fields["wall_at"]),
        speed=float(fields["speed"]),
        limit_at=datetime.fromisoformat(limit) if limit else None,
    )


def write_anchor(path: Path, anchor: Anchor) -> None:
    """Replace the anchor file at once, so that no reader ever sees half of it."""
    fields = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(anchor).items()}
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps(fields))
    draft.replace(path)


def wall_now() -> datetime:
    """The wall clock, for tokens and for whoever sets an anchor. Never for clinic time."""
    return datetime.now(UTC)


def open_clock(clock_file: Path | None) -> Clock:
    """The clock of a process: anchored where a file is named, else the wall clock."""
    return AnchoredClock(clock_file) if clock_file else WallClock()
