"""Events of a member that come in one chunk leave what they would leave one after the other."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from shared.events import CloudEvent
from shared.outcomes import Outcomes
from tests.notifications.conftest import Desk, published
from tests.notifications.journal import MONDAY_8

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


async def take(
    desk: Desk, handler: Callable[..., Awaitable[Outcomes]], *events: CloudEvent, chunks: int
) -> list[tuple[str, str]]:
    """The events in one chunk, or in one each; what was published."""
    told = []
    for chunk in [events] if chunks == 1 else [(event,) for event in events]:
        told += published(await desk.take(handler, *chunk))
    return told


@pytest.mark.parametrize("chunks", [1, 2])
async def test_what_was_said_last_decides_where_and_when_somebody_is_reminded(desk: Desk, chunks: int) -> None:
    """Enrolled, given a team and paused until Wednesday of next week; another address; other days and another time."""
    ana, pt_id = desk.member(), uuid4()
    paused = ana.paused(until=MONDAY_8 + 9 * DAY)
    await take(desk, follow_members, ana.enrolled(), ana.team(pt_id=pt_id, coach_id=uuid4()), paused, chunks=chunks)
    await take(desk, follow_contacts, ana.contact(email="old@example.org"), ana.contact(), chunks=chunks)
    await take(desk, follow_plans, ana.plan(), ana.revision(weekdays=(2, 4), local_time="10:00"), chunks=chunks)
    stands = await desk.database.fetch("select status, state, pt_id from enrollments")
    assert [tuple(row) for row in stands] == [("paused", "IL", pt_id)]
    (due,) = await desk.timers()
    thursday_at_10 = datetime(2026, 3, 12, 15, 0, tzinfo=UTC)
    assert timedelta(0) <= due - thursday_at_10 < 20 * MINUTE
    desk.clock.at = due
    await desk.run_timers()
    assert [one.address for one in (await desk.claim())[0]] == ["ana@example.org"]


@pytest.mark.parametrize("chunks", [1, 2])
async def test_a_page_asked_for_before_the_alert_was_resolved_is_moot_though_it_was_taken_on_before(
    desk: Desk, chunks: int
) -> None:
    ana, alert_id = desk.member(), uuid4()
    taken = ana.acknowledged(alert_id)
    desk.clock.at += MINUTE
    await desk.take(follow_conversations, ana.alert(alert_id, repeated=True))
    desk.clock.at += MINUTE
    told = await take(desk, follow_conversations, taken, ana.resolved(alert_id), chunks=chunks)
    assert told == [("notification.suppressed", "moot")]
