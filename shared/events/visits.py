"""Events of messaging about visits."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from shared.events.envelope import CloudEvent, Instant, Record
from shared.events.vocabulary import Exercise, Practitioner, TimeZone

VisitReason = Literal["first-visit", "follow-up", "pain-spike", "safety", "pt-review", "other"]


class VisitBookedData(Record):
    visit_id: UUID
    practitioner: Practitioner
    starts_at: Instant
    ends_at: Instant
    time_zone: TimeZone
    """The member's zone when it was booked."""
    reason: VisitReason


class VisitBooked(CloudEvent):
    """A visit has a time."""

    NAME: ClassVar[str] = "visit.booked"
    type: Literal["org.careloop.visit.booked.v1"] = "org.careloop.visit.booked.v1"
    data: VisitBookedData


class VisitRescheduledData(Record):
    visit_id: UUID
    practitioner: Practitioner
    starts_at: Instant
    ends_at: Instant
    previous_starts_at: Instant
    time_zone: TimeZone
    rescheduled_by: Literal["member", "practitioner", "system"]


class VisitRescheduled(CloudEvent):
    """A visit has another time."""

    NAME: ClassVar[str] = "visit.rescheduled"
    type: Literal["org.careloop.visit.rescheduled.v1"] = "org.careloop.visit.rescheduled.v1"
    data: VisitRescheduledData


class VisitCancelledData(Record):
    visit_id: UUID
    starts_at: Instant
    cancelled_by: Literal["member", "practitioner", "system"]


class VisitCancelled(CloudEvent):
    """A visit will not take place."""

    NAME: ClassVar[str] = "visit.cancelled"
    type: Literal["org.careloop.visit.cancelled.v1"] = "org.careloop.visit.cancelled.v1"
    data: VisitCancelledData


class VisitRecommendation(Record):
    """What the PT recommends for the plan; the note itself stays in messaging."""

    action: Literal["continue", "step-back", "hold", "reviewed"]
    exercises: Annotated[tuple[Exercise, ...], Field(max_length=5)] = ()
    """Empty means all of them."""


class VisitCompletedData(Record):
    visit_id: UUID
    practitioner: Practitioner
    recommendation: VisitRecommendation
    starts_at: Instant | None = None
    """When the visit took place; `time` is when its note was written, which may be days later. Absent before 1.1."""


class VisitCompleted(CloudEvent):
    """A visit took place, and what the practitioner recommends for the plan."""

    NAME: ClassVar[str] = "visit.completed"
    MINOR: ClassVar[int] = 1
    type: Literal["org.careloop.visit.completed.v1"] = "org.careloop.visit.completed.v1"
    data: VisitCompletedData


class VisitMissedData(Record):
    visit_id: UUID
    practitioner: Practitioner
    starts_at: Instant


class VisitMissed(CloudEvent):
    """The member did not come."""

    NAME: ClassVar[str] = "visit.missed"
    type: Literal["org.careloop.visit.missed.v1"] = "org.careloop.visit.missed.v1"
    data: VisitMissedData
