"""The lapse timer of a member: one each, setting it again moves it. Which rung it stands for is in the plan."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from shared.outcomes import Cause, Timer, Write
from shared.timers import cancelling_timers, setting_timers

KIND: Final = "plan.lapse"


def saving_lapse_timers(timers: Mapping[UUID, tuple[int | None, Cause]]) -> list[Write | None]:
    """Set each member's timer (Unix seconds), or cancel it where that is None. The cause is the last event that moved
    it."""
    due = [
        Timer(
            kind=KIND,
            key=str(member_id),
            member_id=member_id,
            due_at=datetime.fromtimestamp(due_s, UTC),
            cause=cause,
        )
        for member_id, (due_s, cause) in timers.items()
        if due_s is not None
    ]
    moot = [str(member_id) for member_id, (due_s, _) in timers.items() if due_s is None]
    return [setting_timers(due), cancelling_timers(kind=KIND, keys=moot)]
