"""Session timers that are due become notifications; each member's timer moves on to the next planned day."""

from collections.abc import Sequence
from datetime import date, datetime

from services.notifications.domain.announcements import announce_session
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import plan_notifications
from services.notifications.store.session_timers import move_session_timers, save_reminded
from shared.database import Connection
from shared.outcomes import Outcomes, Timer


async def remind_of_sessions(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """A timer is always right when it is due: whatever made it moot cancelled it. One that is run late plans a
    notification that may be stale, which is told when it is to be sent."""
    await plan_notifications(connection, [announce_session(timer=timer) for timer in timers], now=now)
    reminded = {timer.member_id: date.fromisoformat(timer.payload["planned_on"]) for timer in timers}
    await save_reminded(connection, reminded)
    await move_session_timers(connection, member_ids=list(reminded), policy=load_policy(), now=now)
    return Outcomes()
