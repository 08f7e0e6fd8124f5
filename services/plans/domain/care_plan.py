"""What plans knows of a member: the plan, its items, pain, adherence. Values only; times are Unix seconds."""

from typing import Literal
from uuid import UUID

from msgspec import Struct

from shared.events.vocabulary import Disposition, Exercise, PlanAction

Ref = tuple[str, str]
"""(source, id) of an event or command."""
Status = Literal["active", "paused", "ended", "awaiting-phase"]
"""awaiting-phase: after surgery, until the physical therapist signs a phase."""
PainKind = Literal["exercise", "daily"]
"""Pain during exercise and the pain of the day are kept apart: each has its own baseline."""
Sign = Literal["none", "good", "hold", "regressed"]
"""What a session said of an exercise before the next morning is known."""


class Value(Struct, frozen=True, gc=False, array_like=True):
    """Made, copied, compared, written and read for every event (decision 16). It holds values only, never what could
    lead back to it: the collector does not look at it. Written as an array: a new member comes last, with a default,
    and with a new layout number (services/plans/store/packing.py)."""


class Reason(Value, frozen=True):
    """Why an item moved: the decision, its rule, its evidence. Kept with the version that it led to."""

    action: PlanAction
    rule_id: str
    rule_version: int
    says: str
    evidence: tuple[Ref, ...] = ()


class Item(Value, frozen=True):
    """One exercise of a plan at one step of its ladder."""

    exercise: Exercise
    step: int
    sets: int
    reps: int | None
    hold_s: int | None
    days_per_week: int
    locked: bool = False
    good: tuple[Ref, ...] = ()
    """Sessions in a row that were good, the next morning included."""
    incomplete: int = 0
    """Sessions in a row with fewer sets done than asked."""
    last_sign: Sign = "none"
    """Of the member's last session that held this exercise; waits for the next morning."""
    progressed_s: int | None = None
    proposed_s: int | None = None


class Episode(Value, frozen=True):
    """A time of raised pain. Kept after it settled: its last alert still cools down."""

    id: UUID
    opened_s: int
    alert_s: int
    alert_score: int
    """Of the reading that raised the last alert."""
    first_ten_s: int | None
    """First reading of 10 since the last alert, that one included."""
    alerted_at_ceiling: bool = False
    quiet: bool = False
    """Opened again within the cooldown, without an alert."""
    open: bool = True
    review_asked: bool = False
    readings: int = 1
    recent: tuple[tuple[PainKind, int], ...] = ()
    """The last 6 readings of the episode, oldest first."""
    calm: int = 0
    """Readings in a row at most 1 above usual."""
    calm_since_s: int = 0


class PainLevel(Value, frozen=True):
    """The personal pain level. `usual` is what was said at intake, or what a review re-anchored it to."""

    usual: float
    exercise: tuple[int, ...] = ()
    daily: tuple[int, ...] = ()
    """Latest non-spike readings of each kind, oldest first: those that the baseline takes and one more."""
    last_exercise: tuple[int, float] | None = None
    last_daily: tuple[int, float] | None = None
    """(time, score above the baseline of then) of the latest reading of each kind."""
    latest_s: int = 0
    episode: Episode | None = None
    told: float | None = None
    """Usual pain as it was last told; None while that is what was said at intake."""


class Week(Value, frozen=True):
    """What is planned: ISO weekdays at the member's own time."""

    weekdays: tuple[int, ...]
    strength_weekdays: tuple[int, ...]
    local_time: str
    time_zone: str


class Adherence(Value, frozen=True):
    sessions: int = 0
    last_session_s: int | None = None
    last_session: Ref | None = None
    week: int = 0
    """Number of the local Monday of the week in which the last session was (proleptic ordinal)."""
    week_sessions: int = 0
    streak_weeks: int = 0
    """Full weeks in a row, the running one included once it is full."""
    milestones: tuple[str, ...] = ()
    recent_sessions: tuple[int, ...] = ()
    """Last 48 bits of the last session ids: an app that sends one again under another event id is refused."""
    chain: str | None = None
    """Correlation id that the last session came with, if any."""


class Lapse(Value, frozen=True):
    """A rung of the lapse ladder that has not been reached yet."""

    rung_d: int
    missed_since: int
    """Local day of the first planned session that was missed (proleptic ordinal)."""
    due_s: int


class CarePlan(Value, frozen=True):
    member_id: UUID
    plan_id: UUID
    version: int
    """0 until the first plan is issued; every event about the plan raises it by one."""
    status: Status
    pathway: str
    week: Week
    items: tuple[Item, ...]
    intake_usual: int
    pain: PainLevel
    started_s: int
    """From when sessions are planned: the issue of the plan, or the end of a pause."""
    adherence: Adherence = Adherence()
    safety: tuple[Disposition, Ref] | None = None
    """A blocking disposition that nobody cleared yet, and the event that held it: no session is asked for."""
    review: str | None = None
    """The rule that asked for a review by the physical therapist."""
    stepped_back_for_gap: bool = False
    lapse: Lapse | None = None
    """The rung that comes next if nothing is done. None after a session: the first rung, worked out when it is due."""
    lapse_timer_s: int | None = None
    """When the member's lapse timer is due. It may be earlier than `lapse`: it then only looks, and is set again."""
    safety_s: int | None = None
    """When the newest of the red flags was raised that `safety` stands for. Unknown in a plan of before layout 4."""
    review_s: int | None = None
    """When the review was asked for last. Unknown in a plan of before layout 4."""
    ended_s: int | None = None
    """When care ended. Unknown in a plan of before layout 4."""

    @property
    def post_surgical(self) -> bool:
        return self.pathway == "post-surgical"
