"""The population that a first `up` plays in.

`python -m deploy.simulator.seed --data DIR` does it, as a process of its own, through the services' public interfaces;
it finds the stack in `stack.json`. It prints a line per step, ends with 0 when clinic time has met the wall clock, and
continues where it was when it is started again: the events it publishes are the same each time, and one that was taken
already is a duplicate. Only a marker written after its end keeps the next `up` from starting it.
"""

import sys
from datetime import timedelta
from pathlib import Path

from deploy.local.processes import write_private
from shared.clock import Anchor, wall_now, write_anchor

WEEKS = 12
MARKER = "seeded.json"


def is_seeded(data: Path) -> bool:
    return (data / MARKER).exists()


def mark_seeded(data: Path) -> None:
    write_private(data / MARKER, f'{{"seeded_at": "{wall_now().isoformat()}"}}\n')


def hold_clinic_time(clock_file: Path) -> None:
    """Puts clinic time to where seeding begins and holds it there, before any service reads it: it never goes back.

    An anchor that is there already belongs to a seeding that was interrupted, and stays.
    """
    if clock_file.exists():
        return
    now = wall_now()
    write_anchor(clock_file, Anchor(clinic_at=now - timedelta(weeks=WEEKS), wall_at=now, speed=0.0))


def seed_command(data: Path) -> list[str]:
    return [sys.executable, "-m", "deploy.simulator.seed", "--data", str(data)]
