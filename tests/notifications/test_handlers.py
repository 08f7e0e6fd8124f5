"""Given events, when time comes, then what is planned, sent, moved and ended: on a real database."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.notifications.domain.delivery import Accepted, NoAnswer, NotNow, Refused
from services.notifications.handlers.follow_activity import follow_activity
from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from services.notifications.handlers.follow_visits import follow_visits
from shared.events import Decision
from shared.events.notifications import NotificationSuppressedData
from shared.outcomes import Outcomes, cause_of
from tests.fixtures.carrying_out import carry_out
from tests.notifications.conftest import Desk, published
from tests.notifications.journal import MONDAY_8, Journal

EVENING = MONDAY_8 + timedelta(hours=10, minutes=20)
"""Monday 18:20 in Chicago: every reminder of 18:00 is due."""


def decision_of(outcomes: Outcomes) -> Decision:
    """Why the one notification of these was suppressed."""
    (draft,) = outcomes.published
    assert isinstance(draft.data, NotificationSuppressedData)
    return draft.data.decision


async def settle_in(desk: Desk, ana: Journal) -> None:
    """A member with an address, consent to email and a plan for Monday, Wednesday and Friday at 18:00."""
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, ana.plan())


async def test_a_planned_session_is_reminded_of_once_at_the_members_own_time(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    (due,) = await desk.timers()
    assert timedelta(0) <= due - (EVENING - timedelta(minutes=20)) < timedelta(minutes=20)
    assert await desk.run_timers() == 0

    desk.clock.at = EVENING
    assert await desk.run_timers() == 1
    assert await desk.run_timers() == 0
    attempts, outcomes = await desk.claim()
    assert [(one.channel, one.address, one.number) for one in attempts] == [("email", "ana@example.org", 1)]
    assert published(outcomes) == []
    assert (await desk.claim())[0] == [], "claimed once"
    assert published(await desk.record(attempts, Accepted())) == [("notification.sent", "email")]
    assert published(await desk.record(attempts, Accepted())) == [], "recorded once"
    (row,) = await desk.rows()
    assert (row["state"], row["about"]) == ("sent", "session 2026-03-02")
    (next_due,) = await desk.timers()
    assert next_due - due == timedelta(days=2), "and then Wednesday"


async def test_the_event_of_a_sent_reminder_names_the_plan_that_asked_for_it(desk: Desk) -> None:
    ana = desk.member()
    plan = ana.plan()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_contacts, ana.contact())
    await desk.take(follow_plans, plan)
    desk.clock.at = EVENING
    await desk.run_timers()
    attempts, _ = await desk.claim()
    (draft,) = (await desk.record(attempts, Accepted())).published
    cause = cause_of(draft.because)
    assert (cause.source, cause.id, cause.chain) == (plan.source, plan.id, plan.chain)


async def test_a_session_done_before_its_time_cancels_the_timer_and_tells_nobody(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = MONDAY_8 + timedelta(hours=2)
    assert published(await desk.take(follow_activity, ana.session())) == []
    (due,) = await desk.timers()
    assert due.date().isoformat() == "2026-03-05", "Wednesday evening in Chicago is Thursday in UTC"
    desk.clock.at = EVENING
    assert await desk.run_timers() == 0
    assert await desk.rows() == []


async def test_a_session_done_after_its_time_and_before_the_send_suppresses(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = EVENING
    await desk.run_timers()
    session = ana.session()
    outcomes = await desk.take(follow_activity, session)
    assert published(outcomes) == [("notification.suppressed", "moot")]
    assert outcomes.published[0].because == session
    decision = decision_of(outcomes)
    assert (decision.rule_id, decision.rule_version) == ("notifications.moot", 1)
    assert decision.reason == "The session was done before this message about it was sent."
    assert [ref.id for ref in decision.evidence][1:] == [session.id]
    assert (await desk.claim())[0] == []
    assert published(await desk.take(follow_activity, session)) == [], "told once"


async def test_a_session_of_yesterday_that_comes_late_leaves_todays_reminder(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    late = ana.session(started_at=MONDAY_8 - timedelta(days=1))
    before = await desk.timers()
    await desk.take(follow_activity, late)
    assert await desk.timers() == before


async def test_a_session_counts_for_the_members_own_day(desk: Desk) -> None:
    """23:30 on Monday in Chicago is Tuesday in UTC: it is Monday's session."""
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = MONDAY_8 + timedelta(hours=15, minutes=50)
    await desk.take(follow_activity, ana.session(started_at=MONDAY_8 + timedelta(hours=15, minutes=30)))
    (due,) = await desk.timers()
    assert due.date().isoformat() == "2026-03-05"


async def test_topics_may_come_in_any_order(desk: Desk) -> None:
    ana = desk.member()
    await desk.take(follow_plans, ana.plan())
    desk.clock.at = EVENING
    await desk.run_timers()
    attempts, outcomes = await desk.claim()
    assert (attempts, published(outcomes)) == ([], []), "nobody to send to yet: it waits"
    (row,) = await desk.rows()
    assert row["state"] == "planned"

    desk.clock.at += timedelta(minutes=5)
    await desk.take(follow_contacts, ana.contact())
    assert (await desk.claim())[0] == [], "an address and no consent"
    desk.clock.at += timedelta(minutes=5)
    await desk.take(follow_members, ana.enrolled())
    attempts, _ = await desk.claim()
    assert [one.address for one in attempts] == ["ana@example.org"]


async def test_an_address_that_never_comes_ends_as_suppressed(desk: Desk) -> None:
    ana = desk.member()
    await desk.take(follow_members, ana.enrolled())
    await desk.take(follow_plans, ana.plan())
    desk.clock.at = EVENING
    await desk.run_timers()
    tried = 0
    while not (outcomes := (await desk.claim())[1]).published:
        desk.clock.at += timedelta(minutes=5)
        tried += 1
        assert tried < 100
    assert published(outcomes) == [("notification.suppressed", "no-address")]
    assert tried > 60, "for hours, until the reminder was stale"


async def test_a_service_that_slept_through_the_evening_sends_nothing_stale(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = EVENING
    await desk.run_timers()
    desk.clock.at = MONDAY_8 + timedelta(days=1)
    attempts, outcomes = await desk.claim()
    assert attempts == []
    assert published(outcomes) == [("notification.suppressed", "stale")]
    decision = decision_of(outcomes)
    assert (decision.rule_id, len(decision.evidence)) == ("notifications.stale", 1)
    assert "2026-03-0" in decision.reason
    assert [row["state"] for row in await desk.rows()] == ["expired"]


@pytest.mark.parametrize("minutes", [13 * 60 + 1, 15 * 60, 23 * 60])
async def test_what_comes_at_night_waits_for_morning(desk: Desk, minutes: int) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = MONDAY_8 + timedelta(minutes=minutes)
    await desk.take(follow_plans, ana.lapsed())
    assert (await desk.claim())[0] == []
    (row,) = await desk.rows()
    morning = MONDAY_8 + timedelta(days=1)
    assert timedelta(0) <= row["not_before"] - morning < timedelta(minutes=20)
    assert row["state"] == "planned"
    desk.clock.at = row["not_before"]
    assert len((await desk.claim())[0]) == 1


async def test_a_nudge_cancels_itself_when_the_session_happens(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = MONDAY_8 + timedelta(hours=14)
    await desk.take(follow_plans, ana.lapsed())
    await desk.claim()
    assert published(await desk.take(follow_activity, ana.session())) == [("notification.suppressed", "moot")]


async def test_a_pause_ends_reminders_and_coming_back_brings_them_again(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = EVENING
    await desk.run_timers()
    assert published(await desk.take(follow_members, ana.paused())) == [("notification.suppressed", "paused")]
    assert await desk.timers() == []
    desk.clock.at += timedelta(days=7)
    await desk.take(follow_members, ana.resumed())
    (due,) = await desk.timers()
    assert due > desk.clock.at - timedelta(hours=6)


async def test_a_pause_with_an_end_reminds_after_it_by_itself(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    until = MONDAY_8 + timedelta(days=9)
    await desk.take(follow_members, ana.paused(until=until))
    (due,) = await desk.timers()
    assert due >= until
    desk.clock.at = due
    await desk.run_timers()
    assert len((await desk.claim())[0]) == 1


async def test_leaving_ends_everything_planned_and_every_timer(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_visits, ana.booked(uuid4(), MONDAY_8 + timedelta(days=5)))
    desk.clock.at = EVENING
    await desk.run_timers()
    outcomes = await desk.take(follow_members, ana.disenrolled())
    assert published(outcomes) == [("notification.suppressed", "disenrolled")]
    assert await desk.timers() == []
    assert await desk.timers("reminder.visit") == []
    await desk.take(follow_plans, ana.milestone())
    assert published((await desk.claim())[1]) == [("notification.suppressed", "disenrolled")]


async def test_a_refusal_of_consent_counts_for_what_was_planned_before_it(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = EVENING
    await desk.run_timers()
    await desk.take(follow_members, ana.consent("email", granted=False, topic="session-reminder"))
    attempts, outcomes = await desk.claim()
    assert attempts == []
    assert published(outcomes) == [("notification.suppressed", "no-consent")]
    await desk.take(follow_plans, ana.milestone())
    assert len((await desk.claim())[0]) == 1, "only that topic was refused"


@pytest.mark.parametrize("in_one_chunk", [True, False])
async def test_a_late_grant_does_not_undo_a_later_refusal(desk: Desk, in_one_chunk: bool) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    grant = ana.consent("email", granted=True)
    desk.clock.at += timedelta(hours=1)
    refusal = ana.consent("email", granted=False)
    for chunk in [(refusal, grant)] if in_one_chunk else [(refusal,), (grant,)]:
        await desk.take(follow_members, *chunk)
    await desk.take(follow_plans, ana.milestone())
    assert published((await desk.claim())[1]) == [("notification.suppressed", "no-consent")]


async def test_a_revision_that_keeps_the_days_keeps_todays_reminder(desk: Desk) -> None:
    """Plans are revised after most sessions; a reminder that is due but not made yet must not be lost by it."""
    ana = desk.member()
    await settle_in(desk, ana)
    before = await desk.timers()
    desk.clock.at = EVENING
    await desk.take(follow_plans, ana.revision())
    assert await desk.timers() == before
    await desk.run_timers()
    await desk.take(follow_plans, ana.revision())
    assert await desk.run_timers() == 0
    assert len(await desk.rows()) == 1


async def test_other_days_and_another_zone_move_the_timer(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    (before,) = await desk.timers()
    await desk.take(follow_contacts, ana.contact(time_zone="America/Los_Angeles"))
    (moved,) = await desk.timers()
    assert moved - before == timedelta(hours=2)
    await desk.take(follow_plans, ana.revision(weekdays=(4,), local_time="07:00"))
    (thursday,) = await desk.timers()
    assert thursday - datetime(2026, 3, 5, 16, 0, tzinfo=UTC) < timedelta(minutes=20), "8:00 and jitter, not 7:00"


async def test_an_attempt_without_an_answer_is_told_and_never_made_again(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.milestone())
    attempts, _ = await desk.claim()
    assert published(await desk.record(attempts, NoAnswer())) == [("notification.failed", "unknown-result")]
    desk.clock.at += timedelta(hours=1)
    assert (await desk.claim())[0] == []
    assert published(await desk.record(attempts, NotNow(code="late"))) == [], "late news that it failed changes nothing"
    assert published(await desk.record(attempts, Accepted())) == [("notification.sent", "email")], "late good news does"
    assert [row["state"] for row in await desk.rows()] == ["sent"]


async def test_what_was_refused_for_now_is_tried_again_later(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.milestone())
    for wait in (1, 2, 4):
        attempts, _ = await desk.claim()
        assert len(attempts) == 1
        assert published(await desk.record(attempts, NotNow(code="smtp-451"))) == []
        assert (await desk.claim())[0] == []
        desk.clock.at += timedelta(minutes=wait)
    attempts, _ = await desk.claim()
    assert published(await desk.record(attempts, Refused(code="smtp-550"))) == [("notification.failed", "rejected")]
    (row,) = await desk.rows()
    assert (row["state"], row["attempts"], row["last_error"]) == ("failed", 4, "smtp-550")


async def test_an_answer_finds_its_own_attempt_and_no_other(desk: Desk) -> None:
    """A result that is recorded twice (the first commit's answer was lost) must not settle the attempt after it."""
    ana = desk.member()
    await settle_in(desk, ana)
    await desk.take(follow_plans, ana.milestone())
    down = NotNow(code="smtp-unreachable", provider_down=True)
    first, _ = await desk.claim()
    await desk.record(first, down)
    second, _ = await desk.claim()
    assert [one.number for one in second] == [2]
    await desk.record(first, down)
    assert [row["state"] for row in await desk.rows()] == ["sending"]
    assert (await desk.claim())[0] == []


async def test_what_became_moot_on_the_line_is_not_tried_again(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    desk.clock.at = EVENING
    await desk.run_timers()
    attempts, _ = await desk.claim()
    assert published(await desk.take(follow_activity, ana.session())) == [], "it may be out already"
    outcomes = await desk.record(attempts, NotNow(code="smtp-451"))
    assert published(outcomes) == [("notification.suppressed", "moot")]
    desk.clock.at += timedelta(minutes=5)
    assert (await desk.claim())[0] == []


async def test_two_senders_never_take_the_same_row(desk: Desk) -> None:
    import asyncio

    members = [desk.member(email=f"m{number}@example.org") for number in range(20)]
    await desk.take(follow_members, *(one.enrolled() for one in members))
    await desk.take(follow_contacts, *(one.contact() for one in members))
    await desk.take(follow_plans, *(one.milestone() for one in members))
    claims = await asyncio.gather(*(desk.claim() for _ in range(4)))
    addresses = [one.address for attempts, _ in claims for one in attempts]
    assert sorted(addresses) == sorted(f"m{number}@example.org" for number in range(20))


async def test_a_herd_at_one_local_time_is_spread_and_each_gets_one(desk: Desk) -> None:
    members = [desk.member(email=f"m{number}@example.org") for number in range(300)]
    await desk.take(follow_plans, *(one.plan() for one in members))
    await desk.take(follow_contacts, *(one.contact() for one in members))
    await desk.take(follow_members, *(one.enrolled() for one in members))
    arrived: list[list[str]] = []
    for minute in range(21):
        desk.clock.at = EVENING - timedelta(minutes=20 - minute)
        await desk.run_timers()
        attempts, _ = await desk.claim()
        await desk.record(attempts, Accepted())
        arrived.append([one.address for one in attempts])
    assert sorted(address for minute in arrived for address in minute) == sorted(one.email or "" for one in members)
    assert max(len(minute) for minute in arrived) < 40, "15 a minute on average, not 300 in one"


async def test_a_chunk_of_many_members_takes_few_statements(desk: Desk) -> None:
    """No statement in a loop: 200 members cost as many statements as one."""
    members = [desk.member() for _ in range(202)]
    counts = []
    # The first chunk is not counted: the driver asks for the types of each statement once.
    for chunk in (members[:1], members[1:2], members[2:]):
        statements = 0

        def count(_: object) -> None:
            nonlocal statements
            statements += 1

        async with desk.database.acquire() as connection, connection.transaction():
            connection.add_query_logger(count)
            now = desk.clock.now()
            await carry_out(follow_members, connection, [one.enrolled() for one in chunk], now=now)
            await carry_out(follow_contacts, connection, [one.contact() for one in chunk], now=now)
            await carry_out(follow_plans, connection, [e for one in chunk for e in (one.plan(), one.lapsed())], now=now)
            await carry_out(follow_activity, connection, [one.session() for one in chunk], now=now)
            visits = [one.booked(uuid4(), MONDAY_8 + timedelta(days=3)) for one in chunk]
            await carry_out(follow_visits, connection, visits, now=now)
            connection.remove_query_logger(count)
        counts.append(statements)
    assert counts[1] == counts[2] <= 30
