"""The shape of the rule data under `library/`. Every rule keeps its id, version, owner's mark and source.

Marks: V seen in published text, D derived, A our assumption, U unverified.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.events.vocabulary import Cause, Exercise, Text80, Text300, TreatmentElement
from shared.red_flags import Mark

HOUR_S = 3_600
DAY_S = 86_400

Weekday = Annotated[int, Field(ge=1, le=7)]


class Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(Data):
    """What every rule has. `says` is one line that a member can read."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z]+\.[a-z0-9-]+$", max_length=80)]
    version: Annotated[int, Field(ge=1)]
    mark: Mark
    source: str
    says: Text300


class BaselineRule(Rule):
    readings_max: int
    readings_min: int


class ToldRule(Rule):
    moved_by: int


class SpikeRule(Rule):
    once_above: int
    twice_above: int
    score_min: int
    pair_within_h: int


class CeilingRule(Rule):
    baseline_min: int
    single_score: int
    single_baseline_max: int


class RepeatRule(Rule):
    above_last_alert: int
    cooldown_d: int
    ceiling_after_h: int


class LateRule(Rule):
    within_h: int


class SettleRule(Rule):
    readings_min: int
    above_max: int
    span_d: int


class NewLevelRule(Rule):
    readings_min: int
    open_d: int


class ReAnchorRule(Rule):
    readings_max: int


class PainRules(Data):
    baseline: BaselineRule
    told: ToldRule
    spike: SpikeRule
    ceiling: CeilingRule
    repeat: RepeatRule
    red_flag: Rule
    late: LateRule
    settle: SettleRule
    new_level: NewLevelRule
    re_anchor: ReAnchorRule


class ProgressRule(Rule):
    sessions: int
    extra_reps: int
    rpe_max: int
    pain_max: int


class RegressRule(Rule):
    pain_min: int
    pain_min_post_surgical: int
    next_morning_above: int
    rpe_min: int
    incomplete_sessions: int


class DaysRule(Rule):
    days: int


class HighPainRule(Rule):
    baseline_min: int


class ProgressionRules(Data):
    progress: ProgressRule
    hold: Rule
    regress: RegressRule
    pace: DaysRule
    propose_high_pain: HighPainRule
    propose_post_surgical: Rule
    gap: DaysRule
    gap_review: DaysRule
    visit: Rule
    override: Rule


class LadderStep(Data):
    """One step of an exercise's ladder, with its dose."""

    name: Text80
    sets: Annotated[int, Field(ge=1, le=10)]
    reps: Annotated[int, Field(ge=1, le=50)] | None = None
    hold_s: Annotated[int, Field(ge=1, le=300)] | None = None
    mark: Mark


class ExerciseRule(Rule):
    """An exercise and its ladder, easiest step first; `start` is the step a plan starts at."""

    kind: Literal["stretch", "strength"]
    days_per_week: Weekday
    sets_short: Annotated[int, Field(ge=1, le=10)]
    """Sets when time is short: sets are cut, not days."""
    start: int
    gate: str
    """When only a physical therapist moves it; they do so by editing or locking the item."""
    ladder: Annotated[tuple[LadderStep, ...], Field(min_length=2, max_length=20)]

    @model_validator(mode="after")
    def _starts_on_the_ladder(self) -> "ExerciseRule":
        if not 0 < self.start < len(self.ladder):
            raise ValueError("an exercise starts above its easiest step")
        if any(step.hold_s is None if self.kind == "stretch" else step.reps is None for step in self.ladder):
            raise ValueError("a stretch has a hold and a strength exercise has repetitions")
        return self

    @property
    def top(self) -> int:
        """The highest step."""
        return len(self.ladder) - 1


class FrequencyRule(Rule):
    sessions_min: Weekday
    sessions_max: Weekday
    weekdays: dict[int, tuple[Weekday, ...]]
    strength_weekdays: tuple[Weekday, ...]

    @model_validator(mode="after")
    def _rests_between_strength_days(self) -> "FrequencyRule":
        days = sorted(self.strength_weekdays)
        if any((later - earlier) % 7 == 1 for earlier, later in zip(days, [*days[1:], days[0]], strict=True)):
            raise ValueError("strength days are not consecutive")
        for sessions, weekdays in self.weekdays.items():
            if len(set(weekdays)) != sessions or not set(days) <= set(weekdays):
                raise ValueError("a week has as many days as sessions and holds every strength day")
        return self


class PathwayRules(Data):
    frequency: FrequencyRule
    causes: dict[Cause, str]
    issue: Rule
    first_step: Rule
    post_surgical: Rule
    elements: dict[TreatmentElement, Text300]
    post_surgical_education: Text300
    pathways: dict[str, Rule]


class LapseRule(Rule):
    rungs_d: tuple[Literal[3, 7, 14, 21], ...]


class MilestoneRule(Rule):
    sessions: dict[str, int]
    streak_weeks: int
    pain_fraction_max: float


class EngagementRules(Data):
    lapse: LapseRule
    streak: Rule
    milestones: MilestoneRule


class Library(Data):
    """All rules of plans in force."""

    owners: dict[str, str]
    """Who owns each file of rules, by its name."""
    pain: PainRules
    progression: ProgressionRules
    exercises: dict[Exercise, ExerciseRule]
    pathways: PathwayRules
    engagement: EngagementRules
