"""What is about one member, or one attempt, leaves the others alone."""

from datetime import timedelta
from uuid import uuid4

from services.notifications.domain.delivery import NotNow
from services.notifications.handlers.claim_sends import claim_sends
from services.notifications.handlers.follow_activity import follow_activity
from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from services.notifications.handlers.follow_visits import follow_visits
from services.notifications.store.notifications import find_due
from tests.notifications.conftest import ANSWER_WITHIN, Desk, published
from tests.notifications.journal import MONDAY_8
from tests.notifications.test_handlers import EVENING, settle_in


async def test_the_session_of_one_member_leaves_the_reminder_of_another(desk: Desk) -> None:
    """Of the same day."""
    ana, ben = desk.member(), desk.member()
    for member in (ana, ben):
        await settle_in(desk, member)
    desk.clock.at = EVENING
    await desk.run_timers()
    assert published(await desk.take(follow_activity, ana.session())) == [("notification.suppressed", "moot")]
    attempts, _ = await desk.claim()
    assert [one.notification.member_id for one in attempts] == [ben.member_id]


async def test_what_was_put_off_since_it_was_found_is_not_sent_before_its_time(desk: Desk) -> None:
    """Another process has sent it meanwhile, and the mail server said: not now."""
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.milestone())
    attempts, _ = await desk.claim()
    await desk.record(attempts, NotNow(code="smtp-451"))
    found = [one.notification.notification_id for one in attempts]

    async def claim() -> int:
        async with desk.database.acquire() as connection, connection.transaction():
            claimed = await claim_sends(
                connection, notification_ids=found, channels={"email"}, mailboxes={}, answer_within=ANSWER_WITHIN,
                now=desk.clock.now(),
            )  # fmt: skip
        return claimed.taken

    assert await claim() == 0
    desk.clock.at += timedelta(minutes=1)
    assert await claim() == 1


async def test_messages_that_come_together_are_announced_once(desk: Desk) -> None:
    ana, conversation_id = desk.member(), uuid4()
    await settle_in(desk, ana)
    await desk.take(follow_conversations, *(ana.message(conversation_id=conversation_id) for _ in range(2)))
    assert len(await desk.rows()) == 1


async def test_a_pause_ends_what_is_resting_and_leaves_the_visit(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_visits, ana.booked(uuid4(), MONDAY_8 + timedelta(days=1, hours=1)))
    desk.clock.at += timedelta(hours=1)
    await desk.take(follow_plans, ana.lapsed())
    await desk.run_timers()
    outcomes = await desk.take(follow_members, ana.paused())
    assert published(outcomes) == [("notification.suppressed", "paused")], "the nudge"
    attempts, _ = await desk.claim()
    assert [one.notification.topic for one in attempts] == ["visit-reminder"]


async def test_whom_somebody_holds_does_not_stand_before_the_others(desk: Desk) -> None:
    for member in (desk.member(), desk.member()):
        await settle_in(desk, member)
        await desk.take(follow_plans, member.milestone())
    now = desk.clock.now()
    async with desk.database.acquire() as connection:
        ((_, held),) = await find_due(connection, pages=False, now=now, limit=1)
        ((_, next_one),) = await find_due(connection, pages=False, now=now, limit=1, but_members={held})
    assert next_one != held
