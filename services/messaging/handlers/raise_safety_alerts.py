"""careloop.plans, a group of its own: a red flag becomes an alert whatever else is parked, waiting or unknown."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.triggers import on_safety_flagged
from services.messaging.store.alerts import load_alert_book, saving_alert_changes
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.database import Connection
from shared.events import SafetyFlagged
from shared.outcomes import Outcomes


async def raise_safety_alerts(connection: Connection, events: Sequence[SafetyFlagged], /, *, now: datetime) -> Outcomes:
    """Raise, or repeat, the member's safety alert. Waits for nothing: without a care team the on-call role is asked."""
    outcomes = Outcomes()
    asked = [on_safety_flagged(event=event, rules=load_trigger_rules()) for event in events]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    outcomes.writes += saving_alert_changes(changes, now=now)
    return outcomes
