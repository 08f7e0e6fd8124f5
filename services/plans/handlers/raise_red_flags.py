"""A red flag in an answer is told at once. Stateless and in a group of its own: nothing parked can hold it back."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid5

from services.plans.domain.answers import Answers
from shared.database import Connection
from shared.events.activity import PainReported, SessionCompleted
from shared.events.envelope import NAMESPACE
from shared.events.plans import SafetyFlagged, SafetyFlaggedData
from shared.outcomes import Outcomes
from shared.red_flags import screen


async def raise_red_flags(
    connection: Connection, events: Sequence[SessionCompleted | PainReported | Answers], /, *, now: datetime
) -> Outcomes:
    """Flag every disposition but `none`, whether or not the member is known here."""
    outcomes = Outcomes()
    for event in events:
        if not event.data.findings:
            continue
        screening = screen(findings=event.data.findings)
        if screening.disposition == "none":
            continue
        flagged = SafetyFlaggedData(
            flag_id=uuid5(NAMESPACE, f"safety-flag {event.source} {event.id}"),
            disposition=screening.disposition,
            findings=screening.findings,
            decision=screening.decided_on(event.ref),
        )
        outcomes.publish(SafetyFlagged, flagged, because=event)
    return outcomes
