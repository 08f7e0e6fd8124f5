"""careloop.activity: pain and sessions for the member page; a session ends a lapse."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import resolve_alert
from services.messaging.domain.course_events import readings_of, session_of
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.store.alerts import lock_standing_alerts, saving_alert_changes
from services.messaging.store.course import saving_pain_readings, saving_sessions
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import PainReported, SessionCompleted
from shared.outcomes import Outcomes


async def follow_activity(
    connection: Connection, events: Sequence[SessionCompleted | PainReported], /, *, now: datetime
) -> Outcomes:
    """Keep readings, sessions and the timeline; resolve lapse alerts of members who are back."""
    outcomes = Outcomes()
    sessions = [event for event in events if isinstance(event, SessionCompleted)]
    changes: list[AlertChange] = []
    for alert in await lock_standing_alerts(connection, of={(event.subject, "lapse"): None for event in sessions}):
        # A phone may deliver an old session late: only one done after the alert says that the member is back.
        back = (event for event in sessions if event.subject == alert.member_id and event.time > alert.raised_at)
        if (session := next(back, None)) is not None:
            change = resolve_alert(
                alert=alert, by=None, outcome="no-action-needed", note=None, because=session, now=now
            )
            changes += [change] if isinstance(change, AlertChange) else []
    announce_alerts(outcomes=outcomes, changes=changes)
    members = dict.fromkeys(event.subject for event in events)
    feed = [NewFeedEntry(kind="member", change="pain", member_id=m, subject_id=m) for m in members]
    kept = [
        saving_pain_readings([reading for event in events for reading in readings_of(event=event)]),
        saving_sessions([session_of(event=event) for event in sessions]),
        saving_timeline([describe_event(event, service="apps") for event in events]),
    ]
    outcomes.writes += [*kept, *saving_alert_changes(changes, now=now, feed=feed)]
    return outcomes
