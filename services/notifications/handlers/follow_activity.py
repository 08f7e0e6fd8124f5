"""A session that was done needs no reminder."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.notifications.domain.announcements import LAPSE, about_session
from services.notifications.domain.publishing import publish_suppressed
from services.notifications.domain.quiet_hours import local_date
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import suppress_about
from services.notifications.store.session_timers import load_zones, move_session_timers, save_latest_sessions
from shared.database import Connection
from shared.events import SessionCompleted
from shared.outcomes import Outcomes


async def follow_activity(connection: Connection, events: Sequence[SessionCompleted], /, *, now: datetime) -> Outcomes:
    """The reminder of the day on which the session began, in the member's zone, and any nudge are moot; the timer moves
    on to the next planned day. A session that an app sends late ends the reminder of its own day only."""
    outcomes, policy = Outcomes(), load_policy()
    latest = {event.subject: event for event in events}
    zones = await load_zones(connection, member_ids=list(latest), policy=policy)
    started: dict[UUID, datetime] = {}
    gone: dict[tuple[UUID, str], None] = {}
    for event in events:
        member_id, at = event.subject, event.data.started_at
        started[member_id] = max(at, started.get(member_id, at))
        gone[member_id, about_session(local_date(at=at, zone=zones[member_id]))] = None
        gone[member_id, LAPSE] = None
    await save_latest_sessions(connection, started)
    ended = await suppress_about(connection, list(gone), reason="moot", now=now)
    publish_suppressed(outcomes, ended, because=latest, reason="moot", policy=policy)
    await move_session_timers(connection, member_ids=list(latest), policy=policy, now=now)
    return outcomes
