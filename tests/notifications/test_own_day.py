"""Which day a session counts for: the one of the place where the member is."""

from datetime import UTC, datetime, timedelta

from services.notifications.handlers.follow_activity import follow_activity
from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from tests.notifications.conftest import Desk, published
from tests.notifications.journal import MONDAY_8
from tests.notifications.test_handlers import EVENING


async def test_a_session_counts_for_the_day_where_the_member_is_now(desk: Desk) -> None:
    """22:10 on Monday in Los Angeles is Tuesday where the plan was made: it is Monday's session."""
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_plans, ana.plan())
    await desk.take(follow_contacts, ana.contact(time_zone="America/Los_Angeles"))
    desk.clock.at = EVENING + timedelta(hours=2)
    assert await desk.run_timers() == 1
    assert [row["about"] for row in await desk.rows()] == ["session 2026-03-02"]
    desk.clock.at = datetime(2026, 3, 3, 6, 30, tzinfo=UTC)
    outcomes = await desk.take(follow_activity, ana.session(started_at=datetime(2026, 3, 3, 6, 10, tzinfo=UTC)))
    assert published(outcomes) == [("notification.suppressed", "moot")]


async def test_a_session_of_yesterday_that_comes_after_todays_leaves_today_done(desk: Desk) -> None:
    """A phone sends what it kept in any order: who has done today's session is not reminded of it."""
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, ana.plan())
    desk.clock.at = MONDAY_8 + timedelta(hours=2)
    await desk.take(follow_activity, ana.session())
    before = await desk.timers()
    await desk.take(follow_activity, ana.session(started_at=MONDAY_8 - timedelta(days=1)))
    assert await desk.timers() == before
    desk.clock.at = EVENING
    assert await desk.run_timers() == 0
