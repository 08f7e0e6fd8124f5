"""Who comes back begins anew: what the plan of before asked for is over."""

from datetime import timedelta

from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from tests.notifications.conftest import Desk


async def test_who_comes_back_is_not_reminded_of_the_plan_of_before(desk: Desk) -> None:
    """After surgery a plan comes only when the physical therapist has signed a phase: weeks later, perhaps."""
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, ana.plan())
    await desk.take(follow_members, ana.disenrolled())
    desk.clock.at += timedelta(days=90)
    await desk.take(follow_members, ana.enrolled(cause="post-surgical"))
    assert await desk.timers() == []
    await desk.take(follow_plans, ana.plan())
    assert len(await desk.timers()) == 1


async def test_a_new_plan_that_is_read_before_the_departure_is_reminded_of(desk: Desk) -> None:
    """Topics have no mutual order."""
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_plans, ana.plan())
    left = ana.disenrolled()
    desk.clock.at += timedelta(days=90)
    again = ana.enrolled()
    await desk.take(follow_plans, ana.plan())
    await desk.take(follow_members, left, again)
    assert len(await desk.timers()) == 1
