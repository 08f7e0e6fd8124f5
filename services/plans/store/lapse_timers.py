"""The timer of a member's next lapse rung. One a member: setting it again moves it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

from services.plans.domain.lapse import LapseRung
from shared.database import Connection
from shared.outcomes import Cause, Timer
from shared.timers import cancel_timers, save_timers

KIND: Final = "plan.lapse"


async def save_lapse_timers(connection: Connection, *, rungs: Mapping[UUID, tuple[LapseRung | None, Cause]]) -> None:
    """Set each member's next rung, or cancel it where there is none. The cause is the last event that moved it."""
    await save_timers(
        connection,
        [
            Timer(
                kind=KIND,
                key=str(member_id),
                member_id=member_id,
                due_at=datetime.fromtimestamp(rung.due_s, UTC),
                cause=cause,
                payload={"rung_d": rung.rung_d, "missed_since": rung.missed_since.isoformat()},
            )
            for member_id, (rung, cause) in rungs.items()
            if rung is not None
        ],
    )
    none = [str(member_id) for member_id, (rung, _) in rungs.items() if rung is None]
    if none:
        await cancel_timers(connection, kind=KIND, keys=none)


def read_lapse_timer(timer: Timer) -> LapseRung:
    """The rung that a timer stands for."""
    return LapseRung(
        rung_d=int(timer.payload["rung_d"]),
        missed_since=date.fromisoformat(timer.payload["missed_since"]),
        due_s=int(timer.due_at.timestamp()),
    )
