"""A booked visit is announced a day, an hour and ten minutes before; one that moved or ended is not."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.notifications.domain.announcements import about_visit, visit_reminder_times
from services.notifications.domain.publishing import publish_suppressed
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import suppress_about
from services.notifications.store.visits import Visit, load_visits, save_visits
from shared.database import Connection
from shared.events import VisitBooked, VisitCancelled, VisitCompleted, VisitMissed, VisitRescheduled
from shared.outcomes import Outcomes, Timer, cause_of
from shared.timers import cancel_timers, save_timers

KIND = "reminder.visit"
VisitEvent: TypeAlias = VisitBooked | VisitRescheduled | VisitCancelled | VisitCompleted | VisitMissed


async def follow_visits(connection: Connection, events: Sequence[VisitEvent], /, *, now: datetime) -> Outcomes:
    """Fold each visit's events; then set the timers of what is left and end every reminder of an earlier start."""
    outcomes, policy = Outcomes(), load_policy()
    latest = {event.data.visit_id: event for event in events}
    before = await load_visits(connection, visit_ids=list(latest))
    visits = dict(before)
    for event in events:
        visits[event.data.visit_id] = _follow(visits.get(event.data.visit_id), event)
    await save_visits(connection, visits)

    leads = [lead.name for lead in policy.visit_leads]
    keys = [f"{visit_id} {lead}" for visit_id in visits for lead in leads]
    await cancel_timers(connection, kind=KIND, keys=keys)
    timers = [
        Timer(
            kind=KIND,
            key=f"{visit.visit_id} {lead}",
            member_id=visit.member_id,
            due_at=due_at,
            cause=cause_of(latest[visit.visit_id]),
            payload={
                "visit_id": str(visit.visit_id),
                "starts_at": visit.starts_at.isoformat(),
                "lead": lead,
                "stale_at": stale_at.isoformat(),
            },
        )
        for visit in visits.values()
        if visit.status == "booked"
        for lead, due_at, stale_at in visit_reminder_times(
            starts_at=visit.starts_at, policy=policy, booked_at=latest[visit.visit_id].time, now=now
        )
    ]
    await save_timers(connection, timers)

    gone = [
        (visit.member_id, about_visit(visit.visit_id))
        for visit in visits.values()
        if visit.status != "booked" or visit != before.get(visit.visit_id)
    ]
    ended = await suppress_about(connection, gone, reason="moot", now=now)
    # A member may have two visits: each reminder names the event of its own visit.
    for one in ended:
        because = latest[UUID(one.params["visit_id"])]
        publish_suppressed(outcomes, [one], because={one.member_id: because}, reason="moot", policy=policy)
    return outcomes


def _follow(visit: Visit | None, event: VisitEvent) -> Visit:
    visit_id, member_id = event.data.visit_id, event.subject
    match event:
        case VisitBooked() | VisitRescheduled():
            return Visit(visit_id=visit_id, member_id=member_id, starts_at=event.data.starts_at, status="booked")
        case VisitCancelled():
            return Visit(visit_id=visit_id, member_id=member_id, starts_at=event.data.starts_at, status="cancelled")
        case VisitMissed():
            return Visit(visit_id=visit_id, member_id=member_id, starts_at=event.data.starts_at, status="missed")
        case VisitCompleted():
            starts_at = visit.starts_at if visit else event.time
            return Visit(visit_id=visit_id, member_id=member_id, starts_at=starts_at, status="completed")
