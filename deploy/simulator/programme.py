"""What a member's app knows of the programme: ladders, doses and days, read from the plans' published library."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from shared.events.vocabulary import Exercise

LIBRARY = Path(__file__).resolve().parents[2] / "services" / "plans" / "library"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of an exercise's ladder asks for."""

    sets: int
    reps: int | None = None
    hold_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ladder:
    steps: tuple[Step, ...]
    start: int
    """Where a plan begins, unless it begins at the first step."""
    is_strength: bool


@dataclass(frozen=True, kw_only=True)
class Programme:
    ladders: Mapping[Exercise, Ladder]
    weekdays: Mapping[int, tuple[int, ...]]
    """ISO weekdays of the sessions, by days a week."""
    strength_weekdays: tuple[int, ...]


def _ladder(written: Mapping[str, Any]) -> Ladder:
    steps = tuple(Step(sets=s["sets"], reps=s.get("reps"), hold_s=s.get("hold_s")) for s in written["ladder"])
    return Ladder(steps=steps, start=written["start"], is_strength=written["kind"] == "strength")


@cache
def load_programme() -> Programme:
    exercises = yaml.safe_load((LIBRARY / "exercises.yaml").read_text())["exercises"]
    frequency = yaml.safe_load((LIBRARY / "pathways.yaml").read_text())["frequency"]
    return Programme(
        ladders={cast(Exercise, name): _ladder(written) for name, written in exercises.items()},
        weekdays={count: tuple(days) for count, days in frequency["weekdays"].items()},
        strength_weekdays=tuple(frequency["strength_weekdays"]),
    )
