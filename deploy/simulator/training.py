"""How a simulated member does the exercises that their app shows. Pure.

The app's steps follow the published rule of the plan (two good sessions running, at most one step up a week, a step
back for red answers), from the member's own answers alone: what an app sends must not depend on how fast a system is.
"""

import random
from dataclasses import dataclass
from datetime import date
from typing import Final

from deploy.simulator.parameters import Parameters
from deploy.simulator.programme import Ladder, Programme
from shared.events import ExerciseResult
from shared.events.vocabulary import Exercise, PainScore

PROGRESS_RPE_MAX: Final = 4
PROGRESS_PAIN_MAX: Final = 3
REGRESS_PAIN_MIN: Final = 6
REGRESS_RPE_MIN: Final = 9
DAYS_BETWEEN_STEPS_MIN: Final = 7
GAP_STEP_BACK_DAYS: Final = 14
"""As the plan's rules say: RPE at most 4 and pain at most 3 twice running is a step up, pain 6 a step down."""


@dataclass(kw_only=True)
class _Place:
    """Where a member stands on one ladder."""

    ladder: Ladder
    step: int
    sessions_here: int = 0
    good_running: int = 0
    incomplete_running: int = 0
    moved_on: date | None = None


class Training:
    """One member's exercises, session after session."""

    def __init__(self, rng: random.Random, *, programme: Programme, from_first_step: bool, p: Parameters) -> None:
        self._rng, self._p, self._programme = rng, p, programme
        self._places: dict[Exercise, _Place] = {
            exercise: _Place(ladder=ladder, step=0 if from_first_step else ladder.start)
            for exercise, ladder in programme.ladders.items()
        }
        self._last_on: date | None = None

    def do_session(self, *, on: date, pain: PainScore, rise: float) -> tuple[ExerciseResult, ...]:
        """The answers of one session on a local date, with pain during it and how far a flare lifts it (points)."""
        gap_days = (on - self._last_on).days if self._last_on else None
        if gap_days is not None and gap_days >= GAP_STEP_BACK_DAYS:
            for place in self._places.values():
                self._move(place, -1, on=on)
        strong_day = on.isoweekday() in self._programme.strength_weekdays
        wanted = [name for name, place in self._places.items() if strong_day or not place.ladder.is_strength]
        results = tuple(self._do_exercise(name, rise=rise) for name in wanted)
        for result in results:
            self._follow_rule(result, on=on, pain=pain)
        self._last_on = on
        return results

    def _do_exercise(self, exercise: Exercise, *, rise: float) -> ExerciseResult:
        rng, p, place = self._rng, self._p, self._places[exercise]
        step = place.ladder.steps[place.step]
        rpe = p.rpe_start - p.rpe_gain_per_session * place.sessions_here + 0.5 * rise + rng.gauss(0, 0.7)
        complete = rng.random() < (0.97 if rise == 0 else 0.85)
        extra = round(0.6 * place.sessions_here - 0.5 * rise + rng.gauss(0, 0.8))
        return ExerciseResult(
            exercise=exercise, step=place.step, sets_prescribed=step.sets,
            sets_done=step.sets if complete else step.sets - 1,
            last_set_reps=None if step.reps is None else min(100, max(1, step.reps + extra)),
            last_set_hold_s=None if step.hold_s is None else step.hold_s if complete else step.hold_s // 2,
            rpe=min(10, max(1, round(rpe))),
        )

    def _follow_rule(self, result: ExerciseResult, *, on: date, pain: PainScore) -> None:
        place = self._places[result.exercise]
        step = place.ladder.steps[place.step]
        rpe = result.rpe if result.rpe is not None else 10
        complete = result.sets_done >= step.sets
        reps_enough = step.reps is None or (result.last_set_reps or 0) >= step.reps + 2
        held = step.hold_s is None or (result.last_set_hold_s or 0) >= step.hold_s
        good = complete and reps_enough and held and rpe <= PROGRESS_RPE_MAX and pain <= PROGRESS_PAIN_MAX
        place.sessions_here += 1
        place.good_running = place.good_running + 1 if good else 0
        place.incomplete_running = 0 if complete else place.incomplete_running + 1
        rested = place.moved_on is None or (on - place.moved_on).days >= DAYS_BETWEEN_STEPS_MIN
        if pain >= REGRESS_PAIN_MIN or rpe >= REGRESS_RPE_MIN or place.incomplete_running >= 2:
            self._move(place, -1, on=on)
        elif place.good_running >= 2 and rested and place.step + 1 < len(place.ladder.steps):
            self._move(place, +1, on=on)

    def _move(self, place: _Place, by: int, *, on: date) -> None:
        place.step = max(0, place.step + by)
        place.sessions_here = 0 if by > 0 else 2
        place.good_running = place.incomplete_running = 0
        if by > 0:
            place.moved_on = on
