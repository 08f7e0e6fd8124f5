"""Which event tells the other services about a change of an alert."""

from collections.abc import Sequence

from services.messaging.domain.alert import AlertChange
from shared.events.conversations import (
    AlertAcknowledged,
    AlertAcknowledgedData,
    AlertEscalated,
    AlertEscalatedData,
    AlertRaised,
    AlertRaisedData,
    AlertResolved,
    AlertResolvedData,
)
from shared.outcomes import Outcomes

ASKS = frozenset({"raised", "repeated", "undone", "woke", "reminded", "handed-over"})
"""After these somebody is asked to respond by a new time: told as alert.raised, so that whoever pages people does."""


def announce_alerts(*, outcomes: Outcomes, changes: Sequence[AlertChange]) -> None:
    """Publish each change. Settling and putting off concern only the console."""
    for change in changes:
        alert = change.alert
        if change.action in ASKS:
            raised = AlertRaisedData(
                alert_id=alert.alert_id,
                kind=alert.kind,
                priority=alert.priority,
                owner=alert.owner.practitioner,
                owner_role=alert.owner.role,
                respond_by=alert.respond_by,
                repeated=change.action != "raised",
                decision=change.decision or alert.decision,
            )
            outcomes.publish(AlertRaised, raised, because=change.because, member_id=alert.member_id, named=alert.cause)
        elif change.action == "acknowledged" and change.by:
            seen = AlertAcknowledgedData(alert_id=alert.alert_id, acknowledged_by=change.by)
            outcomes.publish(AlertAcknowledged, seen, because=change.because, member_id=alert.member_id)
        elif change.action == "escalated" and change.decision:
            next_in_line = AlertEscalatedData(
                alert_id=alert.alert_id,
                level=alert.level,
                owner=alert.owner.practitioner,
                owner_role=alert.owner.role,
                respond_by=alert.respond_by,
                decision=change.decision,
            )
            outcomes.publish(AlertEscalated, next_in_line, because=change.because, member_id=alert.member_id)
        elif change.action == "resolved" and alert.outcome:
            closed = AlertResolvedData(alert_id=alert.alert_id, resolved_by=change.by, outcome=alert.outcome)
            outcomes.publish(AlertResolved, closed, because=change.because, member_id=alert.member_id)
