"""Reminders of visits: one is of the time that the visit has now."""

from datetime import timedelta
from uuid import uuid4

import pytest

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


@pytest.mark.parametrize(
    ("booked_before", "heard_before", "due_before"),
    [
        (timedelta(hours=25), timedelta(hours=23), [timedelta(hours=24), timedelta(hours=1), timedelta(minutes=10)]),
        (timedelta(hours=23), timedelta(hours=23), [timedelta(hours=1), timedelta(minutes=10)]),
        (timedelta(hours=25), timedelta(hours=1, minutes=30), [timedelta(hours=1), timedelta(minutes=10)]),
        (timedelta(hours=25), timedelta(minutes=5), [timedelta(minutes=10)]),
    ],
    ids=["late", "at once", "too late for the first", "at the last minute"],
)
async def test_a_visit_that_is_heard_of_late_is_reminded_of_all_the_same(
    desk: Desk, booked_before: timedelta, heard_before: timedelta, due_before: list[timedelta]
) -> None:
    """The member booked it in time: that we were down, or their earlier event was parked, takes no reminder away that
    is not stale. What had passed when they booked is left out."""
    ana = desk.member()
    await settle_in(desk, ana)
    starts_at = desk.clock.now() + timedelta(days=2)
    desk.clock.at = starts_at - booked_before
    booked = ana.booked(uuid4(), starts_at)
    desk.clock.at = starts_at - heard_before
    await desk.take(follow_visits, booked)
    assert await desk.timers("reminder.visit") == [starts_at - before for before in due_before]


async def told(desk: Desk) -> list[str]:
    """The times of visits of which somebody is reminded now."""
    attempts, _ = await desk.claim()
    named = [one.notification for one in attempts if one.notification.topic == "visit-reminder"]
    return [one.params["starts_at"] for one in named]
