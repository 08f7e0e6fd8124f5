"""Reminders of visits: one is of the time that the visit has now."""

from datetime import timedelta
from uuid import uuid4

from services.notifications.handlers.follow_visits import follow_visits
from tests.notifications.conftest import Desk, published
from tests.notifications.test_handlers import settle_in


async def test_a_reminder_that_was_planned_is_not_sent_once_its_visit_has_moved(desk: Desk) -> None:
    """It would say the time of before. The new time has reminders of its own."""
    ana, visit_id = desk.member(), uuid4()
    await settle_in(desk, ana)
    before = desk.clock.now() + timedelta(days=2)
    after = before + timedelta(days=7)
    await desk.take(follow_visits, ana.booked(visit_id, before))
    desk.clock.at = before - timedelta(days=1)
    await desk.run_timers()
    moved = await desk.take(follow_visits, ana.rescheduled(visit_id, after, was=before))
    assert published(moved) == [("notification.suppressed", "moot")]
    assert await told(desk) == []
    desk.clock.at = after - timedelta(days=1)
    await desk.run_timers()
    assert await told(desk) == [after.isoformat()]


async def told(desk: Desk) -> list[str]:
    """The times of visits of which somebody is reminded now."""
    attempts, _ = await desk.claim()
    named = [one.notification for one in attempts if one.notification.topic == "visit-reminder"]
    return [one.params["starts_at"] for one in named]
