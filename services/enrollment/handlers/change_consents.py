"""What a member agrees to be sent: by channel and topic. Only what changes is published."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.enrollment.store.memberships import Consent, load_consents, load_memberships, save_consents
from shared.database import Connection
from shared.events import ConsentChanged
from shared.events.members import ConsentChangedData
from shared.outcomes import Command, Outcomes, Refusal


async def change_consents(
    connection: Connection, *, member_id: UUID, consents: Sequence[ConsentChangedData], command: Command, now: datetime
) -> Outcomes | Refusal:
    """A consent that was never asked for counts as not given, but saying so is published all the same."""
    if member_id not in await load_memberships(connection, member_ids=[member_id]):
        return Refusal("not-found", "No such member.")
    stands = await load_consents(connection, member_ids=[member_id])
    changed = [c for c in consents if stands.get((member_id, c.channel, c.topic)) != c.granted]
    await save_consents(
        connection,
        [
            Consent(member_id=member_id, channel=c.channel, topic=c.topic, granted=c.granted, given_by=c.given_by)
            for c in changed
        ],
        now=now,
    )
    outcomes = Outcomes()
    for consent in changed:
        outcomes.publish(ConsentChanged, consent, because=command)
    return outcomes
