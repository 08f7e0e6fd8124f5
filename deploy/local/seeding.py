"""The population that a first `up` plays in.

`python -m deploy.simulator.seed --data DIR` does it, as a process of its own, through the services' public interfaces;
it finds the stack in `stack.json`. It prints a line per step, ends with 0 when clinic time has met the wall clock, and
continues where it was when it is started again: the events it publishes are the same each time, and one that was taken
already is a duplicate. Only a marker written after its end keeps the next `up` from starting it.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

from deploy.local.processes import write_private
from shared.clock import Anchor, wall_now, write_anchor

WEEKS = 12
BEGUN = "seeding.json"
SEEDED = "seeded.json"


def is_seeded(data: Path) -> bool:
    return (data / SEEDED).exists()


def mark_seeded(data: Path) -> None:
    write_private(data / SEEDED, json.dumps({"seeded_at": wall_now().isoformat()}))


def hold_clinic_time(data: Path, clock_file: Path) -> None:
    """Puts clinic time to where seeding begins and holds it there, before any service reads it: it never goes back.

    Once only: an anchor that is there belongs to a seeding that was interrupted, and one that is gone again to a
    seeding that had just met the wall clock when it was interrupted.
    """
    if clock_file.exists() or (data / BEGUN).exists():
        return
    now = wall_now()
    write_anchor(clock_file, Anchor(clinic_at=now - timedelta(weeks=WEEKS), wall_at=now, speed=0.0))
    write_private(data / BEGUN, json.dumps({"began_at": now.isoformat()}))


def seed_command(data: Path) -> list[str]:
    return [sys.executable, "-m", "deploy.simulator.seed", "--data", str(data)]
