"""Names, addresses and zones of members."""

from collections.abc import Sequence
from datetime import datetime

from services.notifications.domain.recipient import Contact
from services.notifications.store.library import load_policy
from services.notifications.store.recipients import save_contacts
from services.notifications.store.session_timers import move_session_timers
from shared.database import Connection
from shared.events import ContactChanged
from shared.outcomes import Outcomes


async def follow_contacts(connection: Connection, events: Sequence[ContactChanged], /, *, now: datetime) -> Outcomes:
    """Each event holds the whole contact, so the last one stands. A member who moved is reminded at their new time."""
    contacts = {
        event.subject: Contact(
            given_name=event.data.given_name,
            email=event.data.email,
            phone=event.data.phone,
            time_zone=event.data.time_zone,
            language=event.data.language,
        )
        for event in events
    }
    await save_contacts(connection, contacts)
    await move_session_timers(connection, member_ids=list(contacts), policy=load_policy(), now=now)
    return Outcomes()
