"""careloop.plans and careloop.members, each in a group of its own: a red flag becomes an alert whatever else is parked,
waiting or unknown."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.alert import Trigger
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.triggers import on_member_screened, on_safety_flagged
from services.messaging.store.alerts import AlertBook, load_alert_book, saving_alert_changes
from services.messaging.store.asked_before import asked_before
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.database import Connection
from shared.events import MemberScreened, SafetyFlagged
from shared.outcomes import Outcomes


async def raise_safety_alerts(connection: Connection, events: Sequence[SafetyFlagged], /, *, now: datetime) -> Outcomes:
    """Raise, or repeat, the member's safety alert. Waits for nothing: without a care team the on-call role is asked."""
    asked = [on_safety_flagged(event=event, rules=load_trigger_rules()) for event in events]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    return _raise(triggers, book, now=now)


async def raise_screening_alerts(
    connection: Connection, events: Sequence[MemberScreened], /, *, now: datetime
) -> Outcomes:
    """The same for a screening that blocks a plan. Releases before this group raised them beside the profile, so what
    the log still holds when it begins has been asked: that is not asked again, above all where it was closed."""
    asked = [on_member_screened(event=event, rules=load_trigger_rules()) for event in events]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    # Under the lock to raise one: a process of such a release may be raising it at this moment.
    before = await asked_before(connection, triggers=triggers)
    return _raise([trigger for place, trigger in enumerate(triggers) if place not in before], book, now=now)


def _raise(triggers: Sequence[Trigger], book: AlertBook, *, now: datetime) -> Outcomes:
    outcomes = Outcomes()
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    outcomes.writes += saving_alert_changes(changes, now=now)
    return outcomes
