"""A member's events, from every service, and what caused what."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.events import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    CareTeamAssigned,
    CloudEvent,
    ConsentChanged,
    ContactChanged,
    MemberDisenrolled,
    MemberEnrolled,
    MemberLapsed,
    MemberPaused,
    MemberResumed,
    MemberScreened,
    MessageSent,
    MilestoneReached,
    NotificationFailed,
    NotificationSent,
    NotificationSuppressed,
    OutcomeRecorded,
    PainReported,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
    VisitBooked,
    VisitCancelled,
    VisitCompleted,
    VisitMissed,
    VisitRescheduled,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """One event. `caused_by_*` is the identity of the event or command whose handling emitted it, where known."""

    member_id: UUID
    source: str
    event_id: str
    event_type: str
    """Short name, such as session.completed."""
    service: str
    """The publisher: apps, enrollment, plans, messaging, notifications."""
    occurred_at: datetime
    correlation_id: str
    caused_by_source: str | None
    caused_by_id: str | None
    summary: str


def describe_event(event: CloudEvent, *, service: str) -> TimelineEntry:
    """The event as one line of its member's timeline."""
    return TimelineEntry(
        member_id=event.subject,
        source=event.source,
        event_id=event.id,
        event_type=event.NAME,
        service=service,
        occurred_at=event.time,
        correlation_id=event.chain,
        caused_by_source=event.causationsource,
        caused_by_id=event.causationid,
        summary=summarize_event(event)[:300],
    )


def usual(baseline: float) -> str:
    """A baseline as people read it: 3, or 3.5."""
    return f"{baseline:.1f}".removesuffix(".0")


def summarize_event(event: CloudEvent) -> str:
    """One line with the numbers, for clinicians."""
    match event:
        case SessionCompleted(data=d):
            done = sum(1 for e in d.exercises if e.sets_done >= e.sets_prescribed)
            return f"session of {d.duration_min} min, {done} of {len(d.exercises)} exercises done, pain {d.pain_during}"
        case PainReported(data=d):
            return f"pain {d.score} ({d.context.replace('-', ' ')})"
        case PainSpiked(data=d):
            return f"pain {d.score}, usual {usual(d.baseline)}{', again' if d.repeated else ''}"
        case PainSettled(data=d):
            return f"pain back to {d.score}, usual {usual(d.baseline)}"
        case UsualPainChanged(data=d):
            return f"usual pain {usual(d.usual_pain)}, was {usual(d.before)}"
        case SafetyFlagged(data=d) | MemberScreened(data=d):
            return f"{d.disposition}: {words(d.findings) or 'no findings'}"
        case PlanIssued(data=d):
            return f"plan issued: {d.pathway}, {len(d.items)} exercises, {d.sessions_per_week} a week"
        case PlanRevised(data=d):
            return f"plan version {d.version}: {describe_changes(event)}"
        case MemberLapsed(data=d):
            return f"no session in the {d.rung_days} days since the one missed on {d.missed_since}"
        case MilestoneReached(data=d):
            return f"milestone {d.milestone}"
        case OutcomeRecorded(data=d):
            return f"week {d.week}: pain {d.pain}" + (f", function {d.function}" if d.function is not None else "")
        case _:
            return _summarize_people_and_contact(event)


def describe_changes(event: PlanRevised) -> str:
    """What moved: "mini squat regress 3 to 2"."""
    moved = [c for c in event.data.changes if c.from_step != c.to_step] or list(event.data.changes)
    parts = [f"{c.exercise.replace('-', ' ')} {c.action} {c.from_step} to {c.to_step}" for c in moved]
    return "; ".join(parts) or event.data.decision.reason


def words(codes: tuple[str, ...]) -> str:
    return ", ".join(code.replace("-", " ") for code in codes)


def _summarize_people_and_contact(event: CloudEvent) -> str:
    match event:
        case MemberEnrolled(data=d):
            return f"enrolled: {d.cause}, usual pain {d.pain.usual}, {d.days_per_week} days a week"
        case CareTeamAssigned(data=d):
            return f"care team: {d.pt.name} (PT), {d.coach.name} (coach)"
        case ContactChanged():
            return "contact changed"
        case ConsentChanged(data=d):
            return f"{'consent to' if d.granted else 'no consent to'} {d.channel} for {d.topic}"
        case MemberPaused(data=d):
            return f"paused: {d.reason}"
        case MemberResumed(data=d):
            return f"resumed: {d.reason}"
        case MemberDisenrolled(data=d):
            return f"left: {d.reason}, from {d.effective_on}"
        case NotificationSent(data=d):
            return f"{d.topic} sent by {d.channel}"
        case NotificationFailed(data=d) | NotificationSuppressed(data=d):
            outcome = "failed" if isinstance(event, NotificationFailed) else "not sent"
            return f"{d.topic} by {d.channel} {outcome}: {d.reason}"
        case _:
            return _summarize_own(event)


def _summarize_own(event: CloudEvent) -> str:
    match event:
        case MessageSent(data=d):
            return f"message from {'the member' if d.sender_role == 'member' else d.sender_role}"
        case AlertRaised(data=d):
            asked = d.owner.name if d.owner else "on-call"
            return f"{d.priority} alert{' again' if d.repeated else ''}: {d.kind.replace('-', ' ')}, asks {asked}"
        case AlertAcknowledged(data=d):
            return f"acknowledged by {d.acknowledged_by.name}"
        case AlertEscalated(data=d):
            return f"escalated to {d.owner.name if d.owner else 'on-call'}"
        case AlertResolved(data=d):
            return f"resolved{f' by {d.resolved_by.name}' if d.resolved_by else ''}: {d.outcome.replace('-', ' ')}"
        case VisitBooked(data=d):
            return f"visit with {d.practitioner.name} at {d.starts_at:%Y-%m-%d %H:%M} UTC"
        case VisitRescheduled(data=d):
            return f"visit moved to {d.starts_at:%Y-%m-%d %H:%M} UTC by the {d.rescheduled_by}"
        case VisitCancelled(data=d):
            return f"visit of {d.starts_at:%Y-%m-%d %H:%M} UTC cancelled by the {d.cancelled_by}"
        case VisitCompleted(data=d):
            return f"visit with {d.practitioner.name} done: {d.recommendation.action.replace('-', ' ')}"
        case VisitMissed(data=d):
            return f"visit with {d.practitioner.name} missed"
        case _:
            return event.NAME
