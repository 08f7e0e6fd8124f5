"""Visit timers that are due become notifications."""

from collections.abc import Sequence
from datetime import datetime

from services.notifications.domain.announcements import announce_visit
from services.notifications.store.notifications import plan_notifications
from shared.database import Connection
from shared.outcomes import Outcomes, Timer


async def remind_of_visits(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """A timer is always right when it is due: whatever moved or ended the visit cancelled it."""
    await plan_notifications(connection, [announce_visit(timer=timer) for timer in timers], now=now)
    return Outcomes()
