"""Which event tells the other services about a change of a visit."""

from typing import Literal

from services.messaging.domain.visit import Visit
from shared.events import CloudEvent, VisitBooked, VisitCancelled, VisitCompleted, VisitMissed, VisitRescheduled
from shared.events.visits import (
    VisitBookedData,
    VisitCancelledData,
    VisitCompletedData,
    VisitMissedData,
    VisitRescheduledData,
)
from shared.outcomes import Command, Outcomes, Timer


def announce_visit(
    *,
    outcomes: Outcomes,
    visit: Visit,
    before: Visit,
    because: CloudEvent | Command | Timer,
    by: Literal["member", "practitioner", "system"],
) -> None:
    """Publish what happened between `before` and `visit`. Holds concern nobody else."""
    if visit.status == "booked" and before.status == "held":
        booked = VisitBookedData(
            visit_id=visit.visit_id,
            practitioner=visit.practitioner,
            starts_at=visit.starts_at,
            ends_at=visit.ends_at,
            time_zone=visit.time_zone,
            reason=visit.reason,
        )
        outcomes.publish(VisitBooked, booked, because=because, member_id=visit.member_id)
    elif visit.status == "booked":
        moved = VisitRescheduledData(
            visit_id=visit.visit_id,
            practitioner=visit.practitioner,
            starts_at=visit.starts_at,
            ends_at=visit.ends_at,
            previous_starts_at=before.starts_at,
            time_zone=visit.time_zone,
            rescheduled_by=by,
        )
        outcomes.publish(VisitRescheduled, moved, because=because, member_id=visit.member_id)
    elif visit.status == "cancelled":
        cancelled = VisitCancelledData(visit_id=visit.visit_id, starts_at=visit.starts_at, cancelled_by=by)
        outcomes.publish(VisitCancelled, cancelled, because=because, member_id=visit.member_id)
    elif visit.status == "completed" and visit.recommendation:
        done = VisitCompletedData(
            visit_id=visit.visit_id, practitioner=visit.practitioner, recommendation=visit.recommendation
        )
        outcomes.publish(VisitCompleted, done, because=because, member_id=visit.member_id)
    elif visit.status == "missed":
        missed = VisitMissedData(visit_id=visit.visit_id, practitioner=visit.practitioner, starts_at=visit.starts_at)
        outcomes.publish(VisitMissed, missed, because=because, member_id=visit.member_id)
