"""A member's course: pain, sessions, flares and the plan, as the member page shows them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.events.vocabulary import Exercise, PainContext, PlanAction, PlanItem, Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class PainReading:
    """A score 0-10 at a time. Contexts are different questions and never mixed: during a session, next morning ..."""

    member_id: UUID
    source: str
    event_id: str
    """Of the event that told it."""
    context: PainContext
    felt_at: datetime
    score: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionDone:
    member_id: UUID
    session_id: UUID
    completed_at: datetime
    duration_min: int
    pain_during: int
    exercises: int
    """How many were done completely."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PainEpisode:
    """A flare: from the spike that opened it until the pain settled."""

    episode_id: UUID
    member_id: UUID
    started_at: datetime
    settled_at: datetime | None
    baseline: float
    """Usual pain when it began."""
    score_max: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UsualPain:
    """What was usual for a member, 0-10, when an event told it."""

    member_id: UUID
    source: str
    event_id: str
    told_at: datetime
    level: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanStep:
    """One exercise moved, and why."""

    member_id: UUID
    plan_id: UUID
    version: int
    place: int
    exercise: Exercise
    action: PlanAction
    from_step: int
    to_step: int
    reason: str
    rule_id: str
    rule_version: int
    changed_at: datetime
    source: str
    event_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSnapshot:
    """The plan as its last event told it."""

    member_id: UUID
    plan_id: UUID
    version: int
    pathway: str | None
    elements: tuple[dict[str, Any], ...]
    """The six elements of treatment: {"element": ..., "content": ...}."""
    items: tuple[PlanItem, ...]
    schedule: Schedule
    sessions_per_week: int
    reason: str
    rule_id: str
    rule_version: int
    issued_at: datetime
    changed_at: datetime
