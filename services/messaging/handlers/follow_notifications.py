"""careloop.notifications: what members were told, and addresses that are wrong."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.domain.triggers import on_contact_bounced
from services.messaging.store.alerts import load_alert_book, saving_alert_changes
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import CloudEvent, NotificationFailed
from shared.outcomes import Outcomes


async def follow_notifications(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Record; alert about a bounce."""
    outcomes, rules = Outcomes(), load_trigger_rules()
    asked = [on_contact_bounced(event=event, rules=rules) for event in events if isinstance(event, NotificationFailed)]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    members = dict.fromkeys(event.subject for event in events)
    feed = [NewFeedEntry(kind="member", change="timeline", member_id=m, subject_id=m) for m in members]
    timeline = saving_timeline([describe_event(event, service="notifications") for event in events])
    outcomes.writes += [timeline, *saving_alert_changes(changes, now=now, feed=feed)]
    return outcomes
