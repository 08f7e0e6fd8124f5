"""careloop.contacts: what members are called. Addresses are not kept here."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.store.feed import saving_feed_entries
from services.messaging.store.members import save_member_contacts
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import ContactChanged
from shared.outcomes import Outcomes


async def follow_contacts(connection: Connection, events: Sequence[ContactChanged], /, *, now: datetime) -> Outcomes:
    """Keep names, zones and languages."""
    await save_member_contacts(
        connection,
        member_ids=[event.subject for event in events],
        given_names=[event.data.given_name for event in events],
        family_names=[event.data.family_name for event in events],
        time_zones=[event.data.time_zone for event in events],
        languages=[event.data.language for event in events],
    )
    timeline = saving_timeline([describe_event(event, service="enrollment") for event in events])
    members = dict.fromkeys(event.subject for event in events)
    feed = [NewFeedEntry(kind="member", change="profile", member_id=m, subject_id=m) for m in members]
    return Outcomes(writes=[timeline, saving_feed_entries(feed, now=now)])
