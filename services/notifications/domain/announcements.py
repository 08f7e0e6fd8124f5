"""What is announced because of an event: which template, about what, until when."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.notifications.domain.notification import Notification, notification_id_of
from services.notifications.domain.policy import Policy
from shared.events import AlertEscalated, AlertRaised, MemberLapsed, MessageSent, MilestoneReached
from shared.outcomes import Timer, cause_of

LAPSE = "lapse"
"""A nudge is about the lapse as a whole: any session ends it."""
PAGED_PRIORITIES = ("emergency", "urgent")
ASKED_AT = "asked_at"
"""Parameter of a page: the time of the event that asks. Who took the alert on before that has not seen it."""


def announce_nudge(*, event: MemberLapsed, policy: Policy, now: datetime) -> Notification:
    rung, since = event.data.rung_days, event.data.missed_since
    return Notification(
        notification_id=notification_id_of(topic="nudge", member_id=event.subject, occasion=f"{since} {rung}"),
        member_id=event.subject,
        topic="nudge",
        template="nudge",
        about=LAPSE,
        params={"rung_days": rung},
        not_before=now,
        stale_at=now + policy.topics["nudge"].stale_after,
        cause=cause_of(event),
    )


def announce_milestone(*, event: MilestoneReached, policy: Policy, now: datetime) -> Notification:
    """Each milestone once for a member, however often it is reached."""
    milestone = event.data.milestone
    return Notification(
        notification_id=notification_id_of(topic="milestone", member_id=event.subject, occasion=milestone),
        member_id=event.subject,
        topic="milestone",
        template="milestone",
        about=f"milestone {milestone}",
        # Which one stays in the app: "pain halved" is health data.
        params={},
        not_before=now,
        stale_at=now + policy.topics["milestone"].stale_after,
        cause=cause_of(event),
    )


def announce_message(*, event: MessageSent, policy: Policy, now: datetime) -> Notification | None:
    """That somebody wrote; None for what the member wrote or is not addressed to them."""
    if event.data.sender_role == "member" or "member" not in event.data.recipients:
        return None
    message_id = event.data.message_id
    return Notification(
        notification_id=notification_id_of(topic="message", member_id=event.subject, occasion=str(message_id)),
        member_id=event.subject,
        topic="message",
        template="message",
        about=f"conversation {event.data.conversation_id}",
        not_before=now,
        stale_at=now + policy.topics["message"].stale_after,
        cause=cause_of(event),
    )


def announce_page(*, event: AlertRaised | AlertEscalated, policy: Policy, now: datetime) -> Notification | None:
    """A page to the role that is asked, for an alert that cannot wait and for each step of an escalation; None for an
    alert that waits in the queue."""
    if isinstance(event, AlertRaised) and event.data.priority not in PAGED_PRIORITIES:
        return None
    role = event.data.owner_role
    params = {
        "alert_id": str(event.data.alert_id),
        "role": role,
        "respond_by": event.data.respond_by.isoformat(),
        ASKED_AT: event.time.isoformat(),
    }
    return Notification(
        # Each event that asks is an occasion of its own: after a follow-up or a hand-over an alert passes the same
        # levels again, and whoever was asked before has to hear of it again.
        notification_id=notification_id_of(
            topic="safety-page", member_id=event.subject, occasion=f"{event.source} {event.id}"
        ),
        member_id=event.subject,
        topic="safety-page",
        template="page",
        about=about_alert(event.data.alert_id),
        params=params,
        page_role=role,
        not_before=now,
        stale_at=now + policy.topics["safety-page"].stale_after,
        cause=cause_of(event),
    )


def announce_session(*, timer: Timer) -> Notification:
    """The reminder that a session timer stands for."""
    planned_on: str = timer.payload["planned_on"]
    return Notification(
        notification_id=notification_id_of(topic="session-reminder", member_id=timer.member_id, occasion=planned_on),
        member_id=timer.member_id,
        topic="session-reminder",
        template="session-reminder",
        about=about_session(planned_on),
        params={"planned_on": planned_on},
        not_before=timer.due_at,
        stale_at=datetime.fromisoformat(timer.payload["stale_at"]),
        cause=timer.cause,
    )


def announce_visit(*, timer: Timer) -> Notification:
    """The reminder that a visit timer stands for. A visit that moved has another start, so another occasion."""
    visit_id, starts_at, lead = timer.payload["visit_id"], timer.payload["starts_at"], timer.payload["lead"]
    return Notification(
        notification_id=notification_id_of(
            topic="visit-reminder", member_id=timer.member_id, occasion=f"{visit_id} {starts_at} {lead}"
        ),
        member_id=timer.member_id,
        topic="visit-reminder",
        template="visit-reminder",
        about=about_visit(UUID(visit_id)),
        params={"visit_id": visit_id, "starts_at": starts_at},
        not_before=timer.due_at,
        stale_at=datetime.fromisoformat(timer.payload["stale_at"]),
        cause=timer.cause,
    )


def about_session(local_date: object) -> str:
    return f"session {local_date}"


def about_visit(visit_id: UUID) -> str:
    return f"visit {visit_id}"


def about_alert(alert_id: UUID) -> str:
    return f"alert {alert_id}"


def visit_reminder_times(
    *, starts_at: datetime, policy: Policy, booked_at: datetime, now: datetime
) -> Sequence[tuple[str, datetime, datetime]]:
    """(lead, due, stale) of each reminder of a visit that is not stale yet. One whose time had passed when the visit
    was booked, or moved, is left out: the member had just done that. That we hear of it later takes none away."""
    times = [(lead.name, starts_at - lead.before, starts_at - lead.stale_before) for lead in policy.visit_leads]
    return [(name, due, stale) for name, due, stale in times if due > booked_at and stale > max(due, now)]
