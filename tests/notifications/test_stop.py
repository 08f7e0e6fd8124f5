"""Whoever said STOP, or has left, is written to no more, whatever they had agreed to and whatever was planned."""

from datetime import timedelta
from uuid import uuid4

from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from services.notifications.handlers.take_text import take_text
from tests.notifications.conftest import Desk, published

HOUR = timedelta(hours=1)
PHONE = "+15550100"


async def say(desk: Desk, text: str) -> None:
    """The phone says it, an hour after what was before."""
    desk.clock.at += HOUR
    async with desk.database.acquire() as connection, connection.transaction():
        await take_text(connection, provider_id=str(uuid4()), phone=PHONE, text=text, now=desk.clock.now())


async def test_a_second_stop_ends_what_was_agreed_to_after_the_first(desk: Desk) -> None:
    ana = desk.member(email=None, phone=PHONE)
    await desk.take(follow_members, ana.enrolled(channels=("sms",)))
    await desk.take(follow_contacts, ana.contact())
    await say(desk, "STOP")
    desk.clock.at += HOUR
    await desk.take(follow_members, ana.consent("sms", granted=True))
    await desk.take(follow_plans, ana.lapsed(3))
    attempts, _ = await desk.claim(channels=frozenset({"sms"}))
    assert [one.address for one in attempts] == [PHONE]
    await say(desk, "STOP")
    await desk.take(follow_plans, ana.lapsed(7))
    attempts, outcomes = await desk.claim(channels=frozenset({"sms"}))
    assert (attempts, published(outcomes)) == ([], [("notification.suppressed", "no-consent")])


async def test_who_leaves_is_told_nothing_of_what_was_planned(desk: Desk) -> None:
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, ana.lapsed(), ana.milestone())
    await desk.take(follow_conversations, ana.message(conversation_id=uuid4()))
    outcomes = await desk.take(follow_members, ana.disenrolled())
    assert published(outcomes) == [("notification.suppressed", "disenrolled")] * 3
    assert {row["state"] for row in await desk.rows()} == {"suppressed"}
    attempts, outcomes = await desk.claim()
    assert (attempts, published(outcomes)) == ([], []), "told once"
