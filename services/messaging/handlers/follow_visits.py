"""careloop.visits, our own: the timeline, and the alert about a visit that was missed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import Alert, AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import resolve_alert
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.domain.triggers import on_visit_missed
from services.messaging.store.alerts import load_alert_book, saving_alert_changes
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import CloudEvent, VisitCompleted, VisitMissed
from shared.events.vocabulary import AlertKind
from shared.outcomes import Outcomes


async def follow_visits(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Record; alert about a missed visit; resolve that alert when the visit is documented after all."""
    outcomes = Outcomes()
    missed = [event for event in events if isinstance(event, VisitMissed)]
    triggers = [on_visit_missed(event=event, rules=load_trigger_rules()) for event in missed]
    done = {str(event.data.visit_id): event for event in events if isinstance(event, VisitCompleted)}
    others: list[tuple[UUID, AlertKind]] = [(event.subject, "missed-visit") for event in done.values()]
    book = await load_alert_book(connection, triggers=triggers, others=others, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    changes += _resolve_documented(done, known=book.known, raised=changes, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    members = dict.fromkeys(event.subject for event in events)
    feed = [NewFeedEntry(kind="member", change="timeline", member_id=m, subject_id=m) for m in members]
    timeline = saving_timeline([describe_event(event, service="messaging") for event in events])
    outcomes.writes += [timeline, *saving_alert_changes(changes, now=now, feed=feed)]
    return outcomes


def _resolve_documented(
    done: Mapping[str, VisitCompleted], *, known: Sequence[Alert], raised: Sequence[AlertChange], now: datetime
) -> list[AlertChange]:
    standing = {alert.alert_id: alert for alert in known} | {change.alert.alert_id: change.alert for change in raised}
    changes = [
        resolve_alert(
            alert=alert, by=None, outcome="reached-member", note=None, because=done[alert.episode_key], now=now
        )
        for alert in standing.values()
        if alert.kind == "missed-visit" and alert.episode_key in done
    ]
    return [change for change in changes if isinstance(change, AlertChange)]
