"""Which event tells the other services about a change of a visit."""

from dataclasses import replace
from typing import Literal

from services.messaging.domain.visit import Visit
from shared.events import CloudEvent, VisitBooked, VisitCancelled, VisitCompleted, VisitMissed, VisitRescheduled
from shared.events.envelope import Record
from shared.events.visits import (
    VisitBookedData,
    VisitCancelledData,
    VisitCompletedData,
    VisitMissedData,
    VisitRescheduledData,
)
from shared.outcomes import Command, Outcomes, Timer, name_event


def announce_visit(
    *,
    outcomes: Outcomes,
    visit: Visit,
    before: Visit,
    because: CloudEvent | Command | Timer,
    by: Literal["member", "practitioner", "system"],
) -> Visit:
    """Publish what happened between `before` and `visit`; the visit to keep, whose next event names this one as its
    cause."""
    event, data = _describe(visit, before, by)
    named = name_event(event, service="messaging", about=visit.visit_id, because=because)
    outcomes.publish(event, data, because=because, member_id=visit.member_id, named=named)
    return replace(visit, cause=named)


def _describe(
    visit: Visit, before: Visit, by: Literal["member", "practitioner", "system"]
) -> tuple[type[CloudEvent], Record]:
    if visit.status == "booked" and before.status == "held":
        return VisitBooked, VisitBookedData(
            visit_id=visit.visit_id,
            practitioner=visit.practitioner,
            starts_at=visit.starts_at,
            ends_at=visit.ends_at,
            time_zone=visit.time_zone,
            reason=visit.reason,
        )
    if visit.status == "booked":
        return VisitRescheduled, VisitRescheduledData(
            visit_id=visit.visit_id,
            practitioner=visit.practitioner,
            starts_at=visit.starts_at,
            ends_at=visit.ends_at,
            previous_starts_at=before.starts_at,
            time_zone=visit.time_zone,
            rescheduled_by=by,
        )
    if visit.status == "cancelled":
        return VisitCancelled, VisitCancelledData(visit_id=visit.visit_id, starts_at=visit.starts_at, cancelled_by=by)
    if visit.status == "missed":
        return VisitMissed, VisitMissedData(
            visit_id=visit.visit_id, practitioner=visit.practitioner, starts_at=visit.starts_at
        )
    if visit.recommendation is None:
        raise ValueError(f"a visit that is {visit.status} is not told to anybody")
    return VisitCompleted, VisitCompletedData(
        visit_id=visit.visit_id,
        practitioner=visit.practitioner,
        recommendation=visit.recommendation,
        starts_at=visit.starts_at,
    )
