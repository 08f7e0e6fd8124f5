"""What the care team does: visits, messages, alerts, and what is sent to the member."""

from datetime import date

from deploy.contracts.examples.member import COACH, PT, SPIKE_DAY, at, decision, example, example_id
from shared.events import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    CloudEvent,
    MessageSent,
    NotificationFailed,
    NotificationSent,
    NotificationSuppressed,
    VisitBooked,
    VisitCancelled,
    VisitCompleted,
    VisitMissed,
    VisitRescheduled,
)
from shared.events.conversations import (
    AlertAcknowledgedData,
    AlertEscalatedData,
    AlertRaisedData,
    AlertResolvedData,
    MessageSentData,
)
from shared.events.notifications import NotificationFailedData, NotificationSentData, NotificationSuppressedData
from shared.events.visits import (
    VisitBookedData,
    VisitCancelledData,
    VisitCompletedData,
    VisitMissedData,
    VisitRecommendation,
    VisitRescheduledData,
)


def visit_examples(because: CloudEvent) -> list[CloudEvent]:
    visit, starts, moved = example_id("visit"), at(date(2026, 10, 9), 15), at(date(2026, 10, 9), 16, 30)
    zone = "America/New_York"
    booked = example(
        VisitBooked,
        VisitBookedData(
            visit_id=visit,
            practitioner=PT,
            starts_at=starts,
            ends_at=at(date(2026, 10, 9), 15, 30),
            time_zone=zone,
            reason="pain-spike",
        ),
        at=at(SPIKE_DAY, 12, 30),
        because=because,
    )
    return [
        booked,
        example(
            VisitRescheduled,
            VisitRescheduledData(
                visit_id=visit,
                practitioner=PT,
                starts_at=moved,
                ends_at=at(date(2026, 10, 9), 17),
                previous_starts_at=starts,
                time_zone=zone,
                rescheduled_by="member",
            ),
            at=at(date(2026, 10, 8), 9),
            because=booked,
        ),
        example(
            VisitCompleted,
            VisitCompletedData(
                visit_id=visit,
                practitioner=PT,
                recommendation=VisitRecommendation(action="step-back", exercises=("mini-squat",)),
                starts_at=moved,
            ),
            at=at(date(2026, 10, 9), 17, 2),
            because=booked,
        ),
        example(
            VisitCancelled,
            VisitCancelledData(
                visit_id=example_id("visit 2"), starts_at=at(date(2026, 10, 23), 15), cancelled_by="member"
            ),
            at=at(date(2026, 10, 22), 8),
        ),
        example(
            VisitMissed,
            VisitMissedData(visit_id=example_id("visit 3"), practitioner=COACH, starts_at=at(date(2026, 10, 30), 15)),
            at=at(date(2026, 10, 30), 15, 15),
        ),
    ]


def conversation_examples(spiked: CloudEvent) -> list[CloudEvent]:
    alert = example_id("alert")
    raised = example(
        AlertRaised,
        AlertRaisedData(
            alert_id=alert,
            kind="pain-spike",
            priority="soon",
            owner=COACH,
            owner_role="coach",
            respond_by=at(SPIKE_DAY, 15, 52),
            decision=decision("alerts.pain-spike", "Pain is 3 or more above the member's usual.", spiked),
        ),
        at=at(SPIKE_DAY, 11, 52),
        because=spiked,
    )
    return [
        raised,
        example(
            AlertEscalated,
            AlertEscalatedData(
                alert_id=alert,
                level=1,
                owner=PT,
                owner_role="pt",
                respond_by=at(SPIKE_DAY, 23, 52),
                decision=decision(
                    "messaging.ladder",
                    "Nobody acknowledged this soon alert within 8 hours: the physical therapist is asked.",
                    raised,
                ),
            ),
            at=at(SPIKE_DAY, 15, 52),
            because=raised,
        ),
        example(
            AlertAcknowledged,
            AlertAcknowledgedData(alert_id=alert, acknowledged_by=PT),
            at=at(SPIKE_DAY, 16),
            because=raised,
        ),
        example(
            MessageSent,
            MessageSentData(
                conversation_id=example_id("conversation"),
                message_id=example_id("message"),
                sender_role="pt",
                sender_id=PT.practitioner_id,
                recipients=("member",),
            ),
            at=at(SPIKE_DAY, 16, 4),
            because=raised,
        ),
        example(
            AlertResolved,
            AlertResolvedData(alert_id=alert, resolved_by=PT, outcome="visit-booked"),
            at=at(SPIKE_DAY, 16, 10),
            because=raised,
        ),
    ]


def notification_examples(session: CloudEvent, visit: CloudEvent) -> list[CloudEvent]:
    return [
        example(
            NotificationSent,
            NotificationSentData(
                notification_id=example_id("notification"),
                topic="visit-reminder",
                channel="email",
                template="visit-24h",
            ),
            at=at(date(2026, 10, 8), 15),
            because=visit,
        ),
        example(
            NotificationFailed,
            NotificationFailedData(
                notification_id=example_id("notification 2"),
                topic="nudge",
                channel="email",
                template="lapse-3",
                reason="bounced",
            ),
            at=at(date(2026, 10, 26), 14),
        ),
        example(
            NotificationSuppressed,
            NotificationSuppressedData(
                notification_id=example_id("notification 3"),
                topic="session-reminder",
                channel="push",
                template="session-today",
                reason="moot",
                decision=decision(
                    "notifications.moot", "The session was done before this message about it was sent.", session
                ),
            ),
            at=at(SPIKE_DAY, 11, 53),
            because=session,
        ),
    ]
