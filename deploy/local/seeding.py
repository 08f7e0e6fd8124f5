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
from deploy.local.settings import LocalSettings
from shared.clock import Anchor, wall_now, write_anchor

BEGUN = "seeding.json"
SEEDED = "seeded.json"


def simulation_directory(data: Path, servers_id: str) -> Path:
    """What belongs to a population is kept apart for each set of servers that a data directory was started on."""
    return data / "simulations" / servers_id


def is_seeded(simulation: Path) -> bool:
    return (simulation / SEEDED).exists()


def mark_seeded(simulation: Path) -> None:
    write_private(simulation / SEEDED, json.dumps({"seeded_at": wall_now().isoformat()}))


def hold_clinic_time(simulation: Path, clock_file: Path, *, weeks: int) -> None:
    """Puts clinic time to where seeding begins and holds it there, before any service reads it: it never goes back.

    Once only: an anchor that is there belongs to a seeding that was interrupted, and one that is gone again to a
    seeding that had just met the wall clock when it was interrupted.
    """
    if clock_file.exists() or (simulation / BEGUN).exists():
        return
    now = wall_now()
    write_anchor(clock_file, Anchor(clinic_at=now - timedelta(weeks=weeks), wall_at=now, speed=0.0))
    simulation.mkdir(parents=True, exist_ok=True)
    write_private(simulation / BEGUN, json.dumps({"began_at": now.isoformat()}))


def seed_command(data: Path, settings: LocalSettings) -> list[str]:
    given = ["--data", str(data), "--members", str(settings.population_members)]
    return [sys.executable, "-m", "deploy.simulator.seed", *given, "--days", str(7 * settings.population_weeks)]
