"""The causal chain's values for a template."""

from typing import Any, Final
from uuid import UUID

from services.messaging.pages.chain_picture import ChainEvent, Identity, draw_chain
from services.messaging.store.pages_members import TimelineRow, load_chain_events, load_chains
from shared.database import Connection

TONES: Final = {
    "pain.spiked": "hot",
    "safety.flagged": "hot",
    "member.screened": "hot",
    "alert.raised": "ask",
    "alert.escalated": "ask",
    "member.lapsed": "ask",
    "visit.missed": "ask",
    "plan.issued": "change-plan",
    "plan.revised": "change-plan",
    "message.sent": "person",
    "visit.booked": "person",
    "visit.rescheduled": "person",
    "visit.completed": "person",
    "alert.acknowledged": "person",
    "alert.resolved": "person",
}


def tone_of(event_type: str) -> str:
    """How a box is tinted; the words in it say the same."""
    return TONES.get(event_type, "plain")


def _event(row: TimelineRow) -> ChainEvent:
    caused_by = (row.caused_by_source, row.caused_by_id) if row.caused_by_source and row.caused_by_id else None
    return ChainEvent(
        source=row.source,
        event_id=row.event_id,
        event_type=row.event_type,
        service=row.service,
        occurred_at=row.occurred_at,
        summary=row.summary,
        caused_by=caused_by,
    )


async def chain_values(
    connection: Connection, *, member_id: UUID, chain_id: str | None, event: Identity
) -> dict[str, Any]:
    """The chains to choose from, the picture of one (the latest unless asked otherwise; None where there is none) and
    the event that was asked for."""
    chains = await load_chains(connection, member_id=member_id)
    chain_id = chain_id or (chains[0].correlation_id if chains else None)
    rows = await load_chain_events(connection, member_id=member_id, correlation_id=chain_id) if chain_id else []
    events = [_event(row) for row in rows]
    by_identity = {e.identity: e for e in events}
    chosen = by_identity.get(event)
    return {
        "chains": chains,
        "chain_id": chain_id,
        "chain_events": events,
        "picture": draw_chain(events=events) if events else None,
        "chosen": chosen,
        "chosen_cause": by_identity.get(chosen.caused_by) if chosen and chosen.caused_by else None,
        "tone": tone_of,
    }
