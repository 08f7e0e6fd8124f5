"""A sponsor's terms: name, states, dates, who may act for it. An end of the contract ends its members' coverage."""

from datetime import datetime

from services.enrollment.domain.coverage import Sponsor, ends_at
from services.enrollment.domain.enrolment import COVERAGE_TIMER
from services.enrollment.store.applying import find_ending
from services.enrollment.store.sponsors import lock_sponsors, save_sponsors
from shared.database import Connection
from shared.outcomes import Cause, Timer
from shared.timers import save_timers


async def change_sponsor(connection: Connection, *, sponsor: Sponsor, cause: Cause, now: datetime) -> bool:
    """True when the sponsor is new."""
    await lock_sponsors(connection, sponsor_ids=[sponsor.sponsor_id])
    added = await save_sponsors(connection, [sponsor], now=now)
    if sponsor.covers_until is not None and not added:
        async for chunk in find_ending(connection, sponsor_id=sponsor.sponsor_id):
            await save_timers(
                connection,
                [
                    Timer(
                        kind=COVERAGE_TIMER,
                        key=str(member_id),
                        member_id=member_id,
                        due_at=ends_at(last_day),
                        cause=cause,
                    )
                    for member_id, last_day in chunk
                ],
            )
    return bool(added)
