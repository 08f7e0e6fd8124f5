"""A member leaves a list, or all email, by the link in an email."""

from datetime import datetime

from services.notifications.domain.consent import Consent
from services.notifications.domain.unsubscribe_links import UnsubscribeLink
from services.notifications.store.recipients import save_consents
from shared.database import Connection


async def unsubscribe(connection: Connection, *, link: UnsubscribeLink, from_all: bool, now: datetime) -> None:
    """From now on; doing it again changes nothing. What is planned is decided again when it is due, and finds this."""
    consent = Consent(channel="email", topic="all" if from_all else link.topic, granted=False, given_at=now)
    await save_consents(connection, [(link.member_id, consent)])
