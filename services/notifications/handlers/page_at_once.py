"""careloop.conversations, a group of its own: who is asked about an alert that cannot wait is paged whatever else is
parked or waiting for its member."""

from collections.abc import Sequence
from datetime import datetime

from services.notifications.domain.announcements import announce_page
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import plan_notifications
from shared.database import Connection
from shared.events import AlertEscalated, AlertRaised
from shared.outcomes import Outcomes


async def page_at_once(
    connection: Connection, events: Sequence[AlertRaised | AlertEscalated], /, *, now: datetime
) -> Outcomes:
    """Plan each page, unless `follow_conversations` has: it plans the same, and says which of them are moot. What was
    asked for so long ago that its page would be stale is left to that one: this group may be new, and begins with all
    that the log holds."""
    policy = load_policy()
    since = now - policy.topics["safety-page"].stale_after
    pages = [announce_page(event=event, policy=policy, now=now) for event in events if event.time > since]
    await plan_notifications(connection, [page for page in pages if page], now=now)
    return Outcomes()
