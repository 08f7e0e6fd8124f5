"""Events of plans: what a member is asked to do, why, and what their answers mean. Each carries its decision."""

from datetime import date
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from shared.events.envelope import CloudEvent, Decision, Record
from shared.events.vocabulary import (
    Disposition,
    Exercise,
    Finding,
    PainScore,
    PlanAction,
    PlanItem,
    Schedule,
    Text80,
    Text300,
    TreatmentElement,
)


class PlanElement(Record):
    """One of the six elements of treatment and what the plan does for it."""

    element: TreatmentElement
    content: Text300


class PlanIssuedData(Record):
    plan_id: UUID
    version: Annotated[int, Field(ge=1)]
    pathway: Text80
    elements: Annotated[tuple[PlanElement, ...], Field(min_length=6, max_length=12)]
    items: Annotated[tuple[PlanItem, ...], Field(min_length=1, max_length=10)]
    schedule: Schedule
    sessions_per_week: Annotated[int, Field(ge=1, le=7)]
    decision: Decision


class PlanIssued(CloudEvent):
    """A member's first plan, made from their intake."""

    NAME: ClassVar[str] = "plan.issued"
    type: Literal["org.careloop.plan.issued.v1"] = "org.careloop.plan.issued.v1"
    data: PlanIssuedData


class PlanChange(Record):
    """One exercise moved (or was proposed to move) from one step of its ladder to another, and why."""

    exercise: Exercise
    action: PlanAction
    from_step: Annotated[int, Field(ge=0, le=20)]
    to_step: Annotated[int, Field(ge=0, le=20)]
    decision: Decision


class PlanRevisedData(Record):
    plan_id: UUID
    version: Annotated[int, Field(ge=2)]
    changes: Annotated[tuple[PlanChange, ...], Field(max_length=20)]
    items: Annotated[tuple[PlanItem, ...], Field(min_length=1, max_length=10)]
    schedule: Schedule
    sessions_per_week: Annotated[int, Field(ge=1, le=7)]
    revised_by: UUID | None = None
    """The practitioner, where a person and not the engine decided."""
    decision: Decision


class PlanRevised(CloudEvent):
    """The plan changed: the whole new version, what changed in it and why."""

    NAME: ClassVar[str] = "plan.revised"
    type: Literal["org.careloop.plan.revised.v1"] = "org.careloop.plan.revised.v1"
    data: PlanRevisedData


class PainSpikedData(Record):
    episode_id: UUID
    score: PainScore
    baseline: Annotated[float, Field(ge=0, le=10)]
    """Usual pain of the kind that this reading is of: during exercise, or of the day."""
    repeated: bool
    """True for a further alert of an episode already open."""
    decision: Decision


class PainSpiked(CloudEvent):
    """A reading stands out from the member's own baseline."""

    NAME: ClassVar[str] = "pain.spiked"
    type: Literal["org.careloop.pain.spiked.v1"] = "org.careloop.pain.spiked.v1"
    data: PainSpikedData


class PainSettledData(Record):
    episode_id: UUID
    score: PainScore
    baseline: Annotated[float, Field(ge=0, le=10)]
    decision: Decision


class PainSettled(CloudEvent):
    """An episode of pain is over."""

    NAME: ClassVar[str] = "pain.settled"
    type: Literal["org.careloop.pain.settled.v1"] = "org.careloop.pain.settled.v1"
    data: PainSettledData


class UsualPainChangedData(Record):
    usual_pain: Annotated[float, Field(ge=0, le=10)]
    """During exercise, 0-10."""
    before: Annotated[float, Field(ge=0, le=10)]
    """As it was told last, or said at intake."""
    decision: Decision


class UsualPainChanged(CloudEvent):
    """What is usual for a member has moved by a whole point or more since it was last told."""

    NAME: ClassVar[str] = "usual-pain.changed"
    type: Literal["org.careloop.usual-pain.changed.v1"] = "org.careloop.usual-pain.changed.v1"
    data: UsualPainChangedData


class SafetyFlaggedData(Record):
    flag_id: UUID
    disposition: Disposition
    findings: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=40)]
    decision: Decision


class SafetyFlagged(CloudEvent):
    """An answer held a red flag. Raised by a consumer group of its own that nothing parked can hold back."""

    NAME: ClassVar[str] = "safety.flagged"
    type: Literal["org.careloop.safety.flagged.v1"] = "org.careloop.safety.flagged.v1"
    data: SafetyFlaggedData


class MemberLapsedData(Record):
    rung_days: Literal[3, 7, 14, 21]
    missed_since: date
    """The first planned session that was missed."""
    decision: Decision


class MemberLapsed(CloudEvent):
    """Planned sessions have been missed for 3, 7, 14 or 21 days."""

    NAME: ClassVar[str] = "member.lapsed"
    type: Literal["org.careloop.member.lapsed.v1"] = "org.careloop.member.lapsed.v1"
    data: MemberLapsedData


class MilestoneReachedData(Record):
    milestone: Literal["first-session", "first-week", "sessions-10", "sessions-25", "streak-4-weeks", "pain-halved"]
    decision: Decision


class MilestoneReached(CloudEvent):
    """Something to be congratulated on."""

    NAME: ClassVar[str] = "milestone.reached"
    type: Literal["org.careloop.milestone.reached.v1"] = "org.careloop.milestone.reached.v1"
    data: MilestoneReachedData


class OutcomeRecordedData(Record):
    week: Literal[0, 3, 6, 9, 12]
    pain: PainScore
    function: Annotated[int, Field(ge=0, le=10)] | None = None
    decision: Decision


class OutcomeRecorded(CloudEvent):
    """Pain and function at one of the weeks that outcomes are reported for."""

    NAME: ClassVar[str] = "outcome.recorded"
    type: Literal["org.careloop.outcome.recorded.v1"] = "org.careloop.outcome.recorded.v1"
    data: OutcomeRecordedData
