"""Visits, messages of a night and pages of the on-call role: what is told, when, and what became moot."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.notifications.domain.delivery import Accepted, NotNow
from services.notifications.handlers.follow_activity import follow_activity
from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from services.notifications.handlers.follow_visits import follow_visits
from services.notifications.handlers.show_notifications import show_notifications
from tests.notifications.conftest import Desk, published
from tests.notifications.journal import MONDAY_8, Journal

EVENING = MONDAY_8 + timedelta(hours=10, minutes=20)
"""Monday 18:20 in Chicago: every reminder of 18:00 is due."""


async def settle_in(desk: Desk, ana: Journal) -> None:
    """A member with an address, consent to email and a plan for Monday, Wednesday and Friday at 18:00."""
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, ana.plan())


async def test_a_visit_is_announced_three_times(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    starts_at = MONDAY_8 + timedelta(days=3, hours=6)
    await desk.take(follow_visits, ana.booked(uuid4(), starts_at))
    due = await desk.timers("reminder.visit")
    assert [starts_at - at for at in due] == [timedelta(days=1), timedelta(hours=1), timedelta(minutes=10)]
    sent = []
    for at in due:
        desk.clock.at = at
        await desk.run_timers()
        attempts, _ = await desk.claim()
        sent += [one.notification.topic for one in attempts if one.notification.topic == "visit-reminder"]
        await desk.record(attempts, Accepted())
    assert sent == ["visit-reminder"] * 3


async def test_a_visit_booked_for_this_afternoon_leaves_out_the_day_before(desk: Desk) -> None:
    ana = desk.member()
    await desk.take(follow_visits, ana.booked(uuid4(), MONDAY_8 + timedelta(hours=6)))
    assert len(await desk.timers("reminder.visit")) == 2


async def test_a_visit_that_moved_is_announced_for_its_new_time_only(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    visit_id, first = uuid4(), MONDAY_8 + timedelta(days=1, hours=2)
    await desk.take(follow_visits, ana.booked(visit_id, first))
    desk.clock.at = first - timedelta(days=1)
    await desk.run_timers()
    second = first + timedelta(days=4)
    moved = ana.rescheduled(visit_id, second, was=first)
    assert published(await desk.take(follow_visits, moved)) == [("notification.suppressed", "moot")]
    due = await desk.timers("reminder.visit")
    assert [second - at for at in due] == [timedelta(days=1), timedelta(hours=1), timedelta(minutes=10)]
    desk.clock.at = due[0]
    await desk.run_timers()
    attempts, _ = await desk.claim()
    assert [one.notification.params["starts_at"] for one in attempts if one.notification.topic == "visit-reminder"] == [
        second.isoformat()
    ]


async def test_a_visit_that_only_changed_hands_keeps_the_reminder_that_waits_to_be_sent(desk: Desk) -> None:
    """Moved to somebody else at the same time: what has been planned still says what is true, and is not planned
    again."""
    ana = desk.member()
    await settle_in(desk, ana)
    visit_id, starts_at = uuid4(), MONDAY_8 + timedelta(days=1, hours=2)
    await desk.take(follow_visits, ana.booked(visit_id, starts_at))
    desk.clock.at = starts_at - timedelta(days=1)
    await desk.run_timers()
    assert published(await desk.take(follow_visits, ana.rescheduled(visit_id, starts_at, was=starts_at))) == []
    attempts, _ = await desk.claim()
    assert [one.notification.topic for one in attempts] == ["visit-reminder"]


@pytest.mark.parametrize("in_one_chunk", [True, False])
@pytest.mark.parametrize("ending", ["cancelled", "completed"])
async def test_a_visit_that_ended_is_not_announced(desk: Desk, ending: str, in_one_chunk: bool) -> None:
    ana = desk.member()
    visit_id, starts_at = uuid4(), MONDAY_8 + timedelta(days=2)
    event = ana.cancelled(visit_id, starts_at) if ending == "cancelled" else ana.completed(visit_id)
    events = [ana.booked(visit_id, starts_at), event]
    for chunk in [events] if in_one_chunk else [[one] for one in events]:
        await desk.take(follow_visits, *chunk)
    assert await desk.timers("reminder.visit") == []


async def test_messages_of_a_night_are_announced_once(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = MONDAY_8 + timedelta(hours=14)
    conversation_id = uuid4()
    for _ in range(3):
        await desk.take(follow_conversations, ana.message(conversation_id=conversation_id))
        await desk.claim()
    await desk.take(follow_conversations, ana.message(conversation_id=conversation_id, sender="member", to=("coach",)))
    assert len(await desk.rows()) == 1
    desk.clock.at = MONDAY_8 + timedelta(days=1, minutes=20)
    attempts, _ = await desk.claim()
    await desk.record(attempts, Accepted())
    await desk.take(follow_conversations, ana.message(conversation_id=conversation_id))
    assert len(await desk.rows()) == 2, "a new one after the announcement is announced again"


async def test_an_announcement_is_stale_when_the_last_message_it_stands_for_would_be(desk: Desk) -> None:
    """Nothing could be sent for two days, and somebody wrote again meanwhile: of that the member is told."""
    ana, conversation_id = desk.member(), uuid4()
    await settle_in(desk, ana)
    for written in (MONDAY_8, MONDAY_8 + timedelta(hours=47)):
        desk.clock.at = written
        await desk.take(follow_conversations, ana.message(conversation_id=conversation_id))
        attempts, _ = await desk.claim()
        await desk.record(attempts, NotNow(code="smtp-unreachable", provider_down=True))
    desk.clock.at = MONDAY_8 + timedelta(hours=49)
    attempts, ended = await desk.claim()
    assert ([one.notification.topic for one in attempts], published(ended)) == (["message"], [])
    assert len(await desk.rows()) == 1


async def test_what_is_not_addressed_to_the_member_is_not_announced_to_them(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    for sender, to in (("member", ("coach", "pt")), ("coach", ("pt",)), ("oncall", ("coach", "pt"))):
        await desk.take(follow_conversations, ana.message(conversation_id=uuid4(), sender=sender, to=to))
    assert await desk.rows() == []


async def test_who_is_back_before_their_lapse_is_read_is_not_nudged(desk: Desk) -> None:
    """Topics have no mutual order, and a lapse may have been parked for days."""
    ana, bob = desk.member(), desk.member()
    for one in (ana, bob):
        await settle_in(desk, one)
    await desk.take(follow_activity, bob.session())
    desk.clock.at = MONDAY_8 + timedelta(hours=1)
    lapses = ana.lapsed(), bob.lapsed()
    desk.clock.at = MONDAY_8 + timedelta(hours=3)
    await desk.take(follow_activity, ana.session())
    await desk.take(follow_plans, *lapses)
    assert [row["member_id"] for row in await desk.rows()] == [bob.member_id]


async def test_a_milestone_is_told_once_however_often_it_is_reached(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.milestone("pain-halved"), ana.milestone("first-session"))
    await desk.take(follow_plans, ana.milestone("pain-halved"))
    assert sorted(row["about"] for row in await desk.rows()) == ["milestone first-session", "milestone pain-halved"]


async def test_each_lapse_is_nudged_about_at_its_rungs(desk: Desk) -> None:
    """Who comes back and lapses again months later is written to again, and for each rung of a lapse once."""
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.lapsed(3))
    await desk.take(follow_plans, ana.lapsed(3))
    desk.clock.at += timedelta(days=60)
    await desk.take(follow_plans, ana.lapsed(3))
    assert [row["template"] for row in await desk.rows() if row["template"] == "nudge"] == ["nudge"] * 2


async def test_an_emergency_is_paged_at_night_to_the_role_that_is_asked(desk: Desk) -> None:
    ana, alert_id = desk.member(), uuid4()
    desk.clock.at = MONDAY_8 + timedelta(hours=18)
    await desk.take(follow_conversations, ana.alert(alert_id), ana.alert(uuid4(), priority="routine"))
    await desk.take(follow_conversations, ana.escalated(alert_id))
    attempts, outcomes = await desk.claim(mailboxes={"oncall": "oncall@clinic.example"})
    assert [one.address for one in attempts] == ["oncall@clinic.example"]
    assert published(outcomes) == [("notification.failed", "no-address")], "nobody told us how to page a PT"


async def test_a_page_about_a_member_is_not_told_to_the_member(desk: Desk) -> None:
    """What was asked of whom in the clinic is no message of theirs."""
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_conversations, ana.alert(uuid4()))
    assert [row["template"] for row in await desk.rows()] == ["page"]
    async with desk.database.acquire() as connection:
        told = await show_notifications(
            connection, member_id=ana.member_id, asked_by=ana.member_id, roles=frozenset({"member"})
        )
    assert told == []


async def test_a_page_of_an_alert_that_somebody_took_is_moot(desk: Desk) -> None:
    ana, alert_id = desk.member(), uuid4()
    await desk.take(follow_conversations, ana.alert(alert_id))
    assert published(await desk.take(follow_conversations, ana.acknowledged(alert_id))) == [
        ("notification.suppressed", "moot")
    ]


@pytest.mark.parametrize("ending", ["acknowledged", "resolved"])
@pytest.mark.parametrize("chunk", ["one", "two"])
@pytest.mark.parametrize("first", ["flag", "ending"])
async def test_what_was_raised_after_somebody_took_the_alert_is_paged(
    desk: Desk, ending: str, chunk: str, first: str
) -> None:
    """A red flag may overtake on its way what was done about the alert before it. Nobody has seen that flag yet."""
    ana, alert_id = desk.member(), uuid4()
    asked = ana.alert(alert_id)
    await desk.take(follow_conversations, asked)
    desk.clock.at += timedelta(minutes=1)
    done = ana.acknowledged(alert_id) if ending == "acknowledged" else ana.resolved(alert_id)
    desk.clock.at += timedelta(minutes=1)
    flag = ana.alert(alert_id, repeated=True)
    came = [flag, done] if first == "flag" else [done, flag]
    told = []
    for events in [came] if chunk == "one" else [[event] for event in came]:
        told += published(await desk.take(follow_conversations, *events))
    assert told == [("notification.suppressed", "moot")]
    states = {row["cause"]["id"]: row["state"] for row in await desk.rows()}
    assert states == {asked.id: "suppressed", flag.id: "planned"}


async def test_a_page_under_way_stays_wanted_when_it_was_raised_after_somebody_took_the_alert(desk: Desk) -> None:
    ana, alert_id = desk.member(), uuid4()
    done = ana.acknowledged(alert_id)
    desk.clock.at += timedelta(minutes=1)
    await desk.take(follow_conversations, ana.alert(alert_id, repeated=True))
    await desk.claim(mailboxes={"oncall": "oncall@clinic.example"})
    await desk.take(follow_conversations, done)
    (row,) = await desk.rows()
    assert (row["state"], row["reason"]) == ("sending", None), "a failed attempt is tried again"


async def test_each_time_that_an_alert_asks_is_paged_once(desk: Desk) -> None:
    """After a follow-up or a hand-over the ladder runs again through the same levels and roles."""
    ana, alert_id = desk.member(), uuid4()
    first_run = [ana.alert(alert_id), ana.escalated(alert_id)]
    desk.clock.at += timedelta(minutes=40)
    second_run = [ana.alert(alert_id, repeated=True), ana.escalated(alert_id)]
    await desk.take(follow_conversations, *first_run)
    await desk.take(follow_conversations, *first_run, *second_run)
    await desk.take(follow_conversations, *second_run)
    assert sorted(row["cause"]["id"] for row in await desk.rows()) == sorted(e.id for e in first_run + second_run)
