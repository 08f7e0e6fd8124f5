"""What a red flag does to a plan that is not, or not any more, the one it came for."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.plans.handlers.follow_activity import follow_activity
from services.plans.handlers.follow_members import follow_members
from shared.database import Connection
from tests.fixtures.carrying_out import carry_out
from tests.plans.given import (
    DAY,
    MONDAY,
    member_disenrolled,
    member_enrolled,
    pain_reported,
    session_completed,
)
from tests.plans.handlers.test_follow import due, enrolled, plan_of, told

HOUR = timedelta(hours=1)
LEFT, BACK = MONDAY + DAY, MONDAY + 9 * DAY


async def leave(connection: Connection, member_id: UUID, *, at: datetime = LEFT) -> None:
    await carry_out(follow_members, connection, [member_disenrolled(member_id, at=at)], now=at)


async def come_back(connection: Connection, member_id: UUID) -> None:
    outcomes = await carry_out(follow_members, connection, [member_enrolled(member_id, at=BACK)], now=BACK)
    assert told(outcomes) == ["plan.issued"]


async def report(connection: Connection, member_id: UUID, *, at: datetime, finding: Any = "locked-knee") -> list[str]:
    """A pain report with a red flag; why it is refused."""
    event = pain_reported(member_id, at=at, score=3, findings=(finding,))
    return list((await carry_out(follow_activity, connection, [event], now=at)).refused.values())


async def test_one_after_the_end_of_care_goes_on_to_the_next_plan(connection: Connection) -> None:
    member_id = await enrolled(connection)
    await leave(connection, member_id)
    assert await report(connection, member_id, at=BACK + HOUR) == ["care-ended"]
    old = await plan_of(connection, member_id)
    assert (old.status, old.pain.daily, old.safety is not None) == ("ended", (), True)
    await come_back(connection, member_id)
    new = await plan_of(connection, member_id)
    assert (new.status, new.safety, new.safety_s) == ("active", old.safety, old.safety_s)
    assert new.plan_id != old.plan_id
    assert await due(connection, now=BACK + 99 * DAY) == [], "no session is asked for, so none is missed"


async def test_one_that_was_read_before_the_end_and_came_after_it_goes_on_too(connection: Connection) -> None:
    """Events of members are read beside those of apps, and may be behind them by an end and a new enrolment."""
    member_id = await enrolled(connection)
    assert await report(connection, member_id, at=BACK + HOUR) == []
    await leave(connection, member_id)
    await come_back(connection, member_id)
    assert (await plan_of(connection, member_id)).safety is not None


async def test_one_after_the_end_of_care_goes_on_however_often_the_end_is_told(connection: Connection) -> None:
    """Care ended when it first did: nobody screened them anew since."""
    member_id = await enrolled(connection)
    await leave(connection, member_id)
    assert await report(connection, member_id, at=LEFT + HOUR) == ["care-ended"]
    await leave(connection, member_id, at=LEFT + 2 * HOUR)
    await come_back(connection, member_id)
    assert (await plan_of(connection, member_id)).safety is not None


async def test_one_from_before_the_end_of_care_does_not(connection: Connection) -> None:
    """Who comes back was screened anew."""
    member_id = await enrolled(connection)
    await report(connection, member_id, at=LEFT - HOUR)
    await leave(connection, member_id)
    assert (await plan_of(connection, member_id)).safety is not None
    await leave(connection, member_id)
    await come_back(connection, member_id)
    new = await plan_of(connection, member_id)
    assert (new.safety, new.safety_s, new.ended_s) == (None, None, None)


async def test_one_that_blocks_no_plan_is_not_kept(connection: Connection) -> None:
    member_id = await enrolled(connection)
    await leave(connection, member_id)
    before = await plan_of(connection, member_id)
    assert await report(connection, member_id, at=BACK, finding="giving-way") == ["care-ended"]
    assert await plan_of(connection, member_id) == before


@pytest.mark.parametrize("is_first", [True, False])
async def test_one_in_a_session_of_the_plan_before_stops_the_new_one(connection: Connection, is_first: bool) -> None:
    """A phone that has not heard of the new plan, whichever is read first."""
    member_id = await enrolled(connection)
    old = await plan_of(connection, member_id)
    await leave(connection, member_id)
    session: Any = session_completed(member_id, at=BACK + HOUR, plan_id=old.plan_id, findings=("locked-knee",))
    refused: list[str] = []
    for comes in ("session", "back") if is_first else ("back", "session"):
        if comes == "back":
            await come_back(connection, member_id)
        else:
            refused += (await carry_out(follow_activity, connection, [session], now=BACK + HOUR)).refused.values()
    assert refused == ["care-ended" if is_first else "not-the-members-plan"]
    new = await plan_of(connection, member_id)
    assert (new.safety, new.adherence.sessions) == (("same-day", (session.source, session.id)), 0)
    assert await due(connection, now=BACK + 99 * DAY) == []
