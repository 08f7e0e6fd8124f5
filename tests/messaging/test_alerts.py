"""From an event to an alert that somebody resolves, on a real database."""

from uuid import UUID, uuid4

import pytest

from services.messaging.domain.alert import Alert
from services.messaging.domain.people import ONCALL_AUDIENCE
from services.messaging.domain.slots import Span
from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_notifications import follow_notifications
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.handle_alerts import (
    acknowledge,
    hand_over,
    resolve,
    snooze,
    undo_acknowledge,
)
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts, raise_screening_alerts
from services.messaging.handlers.send_message import Sender, send_message
from services.messaging.store.alerts import load_alert_queue, load_alert_steps, load_member_alerts
from services.messaging.store.members import find_visible_members
from services.messaging.store.rules import load_alert_rules
from services.messaging.store.visits import save_absences
from shared.events.vocabulary import Practitioner
from shared.outcomes import Refusal
from tests.messaging.conftest import Clinic
from tests.messaging.given import (
    COACH,
    DAY,
    EPISODE,
    HOUR,
    MEMBER,
    MINUTE,
    NOW,
    ONCALL,
    OTHER_MEMBER,
    PT,
    STRANGER,
    bounced,
    flagged,
    lapsed,
    screened,
    session,
    settled,
    spiked,
    team_assigned,
)
from tests.messaging.test_feed import head, read

RULES = load_alert_rules()


async def alerts(clinic: Clinic) -> list[Alert]:
    async with clinic.database.acquire() as connection:
        return await load_member_alerts(connection, member_ids=[MEMBER])


async def the_alert(clinic: Clinic) -> Alert:
    (alert,) = await alerts(clinic)
    return alert


async def queue(clinic: Clinic, person: Practitioner, *, oncall: bool = False) -> list[Alert]:
    async with clinic.database.acquire() as connection:
        return await load_alert_queue(connection, practitioner_id=person.practitioner_id, oncall=oncall)


async def test_a_spike_raises_one_alert_for_the_coach_with_its_number(clinic: Clinic) -> None:
    spike = spiked()
    (raised,) = await clinic.take(follow_plans, spike)
    assert raised.NAME == "alert.raised"
    assert (raised.causationid, raised.correlationid) == (spike.id, spike.chain)
    assert (raised.data.kind, raised.data.priority, raised.data.owner) == ("pain-spike", "soon", COACH)
    alert = await the_alert(clinic)
    assert (alert.alert_id, alert.summary, alert.status) == (raised.data.alert_id, "pain 7, usual 3", "open")
    assert alert.cause.id == raised.id, "what is done about it names the alert.raised event"
    assert await clinic.due_timers() == {"alert.escalation": alert.respond_by}
    assert [a.alert_id for a in await queue(clinic, COACH)] == [alert.alert_id]
    assert [a.alert_id for a in await queue(clinic, PT)] == [alert.alert_id], "the whole team sees it"
    assert await queue(clinic, STRANGER, oncall=True) == []


async def test_a_repeated_spike_asks_again_in_the_same_alert(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    assert await clinic.due_timers() == {"alert.follow-up": NOW + RULES.resolve_within["soon"]}
    clinic.now += DAY
    (again,) = await clinic.take(follow_plans, spiked(score=9, repeated=True, at=clinic.now))
    assert (again.data.alert_id, again.data.repeated) == (alert.alert_id, True)
    alert = await the_alert(clinic)
    assert (alert.status, alert.repeats, alert.summary) == ("open", 1, "pain 9, usual 3, again")
    assert await clinic.due_timers() == {"alert.escalation": clinic.now + RULES.respond_within["soon"]}


async def test_a_chunk_of_events_of_many_members_is_decided_at_once(clinic: Clinic) -> None:
    members = [uuid4() for _ in range(50)]
    events = [
        event
        for m in members
        for event in (spiked(m, episode=uuid4()), lapsed(14, member_id=m), lapsed(21, member_id=m))
    ]
    published = await clinic.take(follow_plans, *events)
    assert len(published) == 150
    assert await clinic.database.fetchval("select count(*) from alerts") == 100
    assert await clinic.database.fetchval("select count(*) from alerts where kind = 'lapse' and repeats = 1") == 50


async def test_settling_marks_the_alert_and_leaves_it_to_a_person(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    clinic.now += 6 * DAY
    assert await clinic.take(follow_plans, settled()) == []
    alert = await the_alert(clinic)
    assert (alert.status, alert.settled_at) == ("open", clinic.now)
    (episode,) = await clinic.fetch("select * from pain_episodes")
    assert (episode["episode_id"], episode["settled_at"]) == (EPISODE, NOW + 6 * DAY)


@pytest.mark.parametrize("chunks", [1, 2])
async def test_pain_that_settled_and_rose_again_has_not_settled(chunks: int, clinic: Clinic) -> None:
    """However its events are cut into chunks."""
    again = [settled(), spiked(score=9, repeated=True, at=NOW + 6 * DAY)]
    await clinic.take(follow_plans, spiked())
    for place in range(chunks):
        await clinic.take(follow_plans, *again[place::chunks])
    alert = await the_alert(clinic)
    assert (alert.status, alert.settled_at, alert.repeats) == ("open", None, 1)
    steps = await clinic.fetch("select action from alert_actions order by action_id")
    assert [step["action"] for step in steps] == ["raised", "settled", "repeated"]


async def test_nobody_acknowledges_so_the_next_in_line_is_asked(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    await clinic.pass_time(RULES.respond_within["soon"] - MINUTE)
    assert (await the_alert(clinic)).owner.practitioner == COACH
    (escalated,) = await clinic.pass_time(2 * MINUTE)
    assert (escalated.NAME, escalated.data.owner, escalated.data.level) == ("alert.escalated", PT, 1)
    assert escalated.causationid == (await the_alert(clinic)).cause.id
    assert [ref.id for ref in escalated.data.decision.evidence] == [escalated.causationid]
    assert {a.alert_id for a in await queue(clinic, ONCALL, oncall=True)} == set()
    await clinic.pass_time(RULES.respond_within["soon"])
    assert (await the_alert(clinic)).owner.role == "oncall"
    assert len(await queue(clinic, ONCALL, oncall=True)) == 1, "who is on call sees it now"
    await clinic.pass_time(10 * DAY)
    alert = await the_alert(clinic)
    assert (alert.status, alert.level) == ("open", 5)
    assert await clinic.due_timers() == {}, "nobody further can be asked"


async def test_absent_people_are_not_asked(clinic: Clinic) -> None:
    async with clinic.database.acquire() as connection:
        away = Span(starts_at=NOW - DAY, ends_at=NOW + DAY)
        await save_absences(connection, absence_ids=[uuid4()], practitioner_ids=[COACH.practitioner_id], spans=[away])
    (raised,) = await clinic.take(follow_plans, spiked())
    assert raised.data.owner == PT
    clinic.now += 2 * DAY
    (later,) = await clinic.take(follow_plans, spiked(episode=uuid4(), at=clinic.now))
    assert later.data.owner == COACH


async def test_a_red_flag_needs_nothing_that_could_be_missing(bare_clinic: Clinic) -> None:
    (raised,) = await bare_clinic.take(raise_safety_alerts, flagged("emergency", "hot-swollen-joint"))
    assert (raised.data.owner, raised.data.owner_role, raised.data.priority) == (None, "oncall", "emergency")
    assert len(await queue(bare_clinic, ONCALL, oncall=True)) == 1
    async with bare_clinic.database.acquire() as connection:
        seen = {
            person.practitioner_id: await find_visible_members(
                connection, practitioner_id=person.practitioner_id, oncall=person is ONCALL, member_ids=[MEMBER]
            )
            for person in (ONCALL, COACH)
        }
    assert seen == {ONCALL.practitioner_id: {MEMBER}, COACH.practitioner_id: set()}


async def test_the_plans_group_leaves_red_flags_to_the_safety_group_but_records_them(clinic: Clinic) -> None:
    flag = flagged("same-day", "locked-knee")
    assert await clinic.take(follow_plans, flag) == []
    assert await alerts(clinic) == []
    recorded = await clinic.fetch("select summary from timeline where event_id = $1", flag.id)
    assert [row["summary"] for row in recorded] == ["same-day: locked knee"]
    (raised,) = await clinic.take(raise_safety_alerts, flag)
    assert (raised.data.priority, raised.data.owner) == ("urgent", PT)


async def test_flags_without_disposition_and_mild_screenings_raise_nothing(bare_clinic: Clinic) -> None:
    assert await bare_clinic.take(raise_safety_alerts, flagged("none", "fall")) == []
    assert await bare_clinic.take(raise_screening_alerts, screened("pt-72h", "giving-way"), screened("none")) == []


async def test_a_blocking_screening_alerts_the_oncall_clinician(bare_clinic: Clinic) -> None:
    (raised,) = await bare_clinic.take(raise_screening_alerts, screened("emergency", "chest-pain-breathless"))
    assert (raised.data.kind, raised.data.owner_role) == ("safety", "oncall")
    assert (await the_alert(bare_clinic)).summary == "emergency: chest pain breathless"


async def test_only_late_rungs_of_a_lapse_are_work_and_a_session_ends_it(clinic: Clinic) -> None:
    assert await clinic.take(follow_plans, lapsed(3), lapsed(7)) == []
    await clinic.take(follow_plans, lapsed(14))
    clinic.now += HOUR
    assert await clinic.take(follow_activity, session(at=NOW - DAY)) == [], "an old session that came late"
    back = session(pain=2, at=clinic.now)
    (resolved,) = await clinic.take(follow_activity, back, session(at=NOW - DAY))
    assert (resolved.data.resolved_by, resolved.data.outcome) == (None, "no-action-needed")
    assert resolved.causationid == back.id
    assert await clinic.due_timers() == {}


async def test_a_lapse_that_is_read_after_the_session_that_ended_it_is_no_work(clinic: Clinic) -> None:
    await clinic.take(follow_activity, session(at=NOW - DAY), session(at=NOW + HOUR))
    assert await clinic.take(follow_plans, lapsed(14)) == []
    await clinic.take(follow_activity, session(OTHER_MEMBER, at=NOW - DAY))
    (raised,) = await clinic.take(follow_plans, lapsed(14, member_id=OTHER_MEMBER))
    assert (raised.subject, raised.data.kind) == (OTHER_MEMBER, "lapse")


async def test_a_bounce_is_one_alert(clinic: Clinic) -> None:
    (first, again) = await clinic.take(follow_notifications, bounced(), bounced())
    assert (first.data.kind, first.data.repeated, again.data.repeated) == ("bounced-contact", False, True)


async def test_answers_name_the_alert_and_are_told(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    handled = await clinic.command(acknowledge, alert_id=alert.alert_id, by=PT, seen=0)
    assert handled.alert.owner.practitioner == PT
    refused = await clinic.command(acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    assert refused == Refusal("already-acknowledged", "Acknowledged by Petra Therapist.")
    clinic.now += 10 * MINUTE / 60
    undone = await clinic.command(undo_acknowledge, alert_id=alert.alert_id, by=PT)
    assert undone.alert.status == "open"
    assert await clinic.due_timers() == {"alert.escalation": alert.respond_by}
    await clinic.command(hand_over, alert_id=alert.alert_id, by=PT, to_role="coach", seen=0)
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    await clinic.command(
        resolve, alert_id=alert.alert_id, by=COACH, outcome="reached-member", note="called her", seen=0
    )
    names = [event.NAME for event in clinic.published]
    assert names == [
        "alert.raised", "alert.acknowledged", "alert.raised", "alert.raised", "alert.acknowledged", "alert.resolved",
    ]  # fmt: skip
    assert {event.correlationid for event in clinic.published} == {alert.cause.chain}
    async with clinic.database.acquire() as connection:
        steps = await load_alert_steps(connection, alert_ids=[alert.alert_id])
    assert [(step.action, step.by_name) for step in steps] == [
        ("raised", None), ("acknowledged", "Petra Therapist"), ("undone", "Petra Therapist"),
        ("handed-over", "Petra Therapist"), ("acknowledged", "Cora Coach"), ("resolved", "Cora Coach"),
    ]  # fmt: skip
    assert await queue(clinic, COACH) == []
    assert await clinic.due_timers() == {}


async def test_a_snoozed_alert_leaves_the_queue_and_comes_back(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    until = clinic.now + 20 * HOUR
    await clinic.command(snooze, alert_id=alert.alert_id, by=COACH, until=until, seen=0)
    assert await queue(clinic, COACH) == []
    assert await clinic.due_timers() == {"alert.snooze": until}
    (asks,) = await clinic.pass_time(20 * HOUR)
    assert (asks.NAME, asks.data.repeated, asks.data.owner) == ("alert.raised", True, COACH)
    assert [a.status for a in await queue(clinic, COACH)] == ["open"]


async def test_the_follow_up_counts_from_when_somebody_took_it_on(clinic: Clinic) -> None:
    """Or who takes on what is hours old is asked again at once."""
    await clinic.take(follow_plans, spiked())
    clinic.now += 5 * HOUR
    await clinic.command(acknowledge, alert_id=(await the_alert(clinic)).alert_id, by=COACH, seen=0)
    assert await clinic.due_timers() == {"alert.follow-up": clinic.now + RULES.resolve_within["soon"]}


async def test_who_is_on_call_sees_a_member_for_as_long_as_they_are_asked_about_them(clinic: Clinic) -> None:
    async def seen() -> set[UUID]:
        async with clinic.database.acquire() as connection:
            return await find_visible_members(
                connection, practitioner_id=ONCALL.practitioner_id, oncall=True, member_ids=[MEMBER]
            )

    assert await seen() == set()
    await clinic.take(raise_safety_alerts, flagged("emergency", "hot-swollen-joint"))
    assert await seen() == {MEMBER}
    alert_id = (await the_alert(clinic)).alert_id
    await clinic.command(resolve, alert_id=alert_id, by=ONCALL, outcome="reached-member", note=None, seen=0)
    assert await seen() == set()


async def test_a_flare_that_settled_says_nothing_of_another_one(clinic: Clinic) -> None:
    other = uuid4()
    await clinic.take(follow_plans, spiked(), spiked(episode=other))
    await clinic.take(follow_plans, settled())
    assert {a.episode_key: a.settled_at is not None for a in await alerts(clinic)} == {
        str(EPISODE): True,
        str(other): False,
    }


async def test_nobody_answers_the_alert_of_another_member_with_a_message(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert_id, coach = (
        (await the_alert(clinic)).alert_id,
        Sender(role="coach", sender_id=COACH.practitioner_id, name="C"),
    )
    answer = await clinic.command(
        send_message, OTHER_MEMBER, sender=coach, message_id=uuid4(), body="Hello", alert_id=alert_id
    )
    assert answer == Refusal("no-such-alert", "There is no such alert.")


async def test_an_acknowledgement_undone_after_the_deadline_asks_from_now_on(clinic: Clinic) -> None:
    """Somebody had it until this moment: nobody is told of a deadline that has passed meanwhile."""
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    clinic.now = alert.respond_by - MINUTE / 6
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=COACH, seen=alert.repeats)
    clinic.now = alert.respond_by + MINUTE / 60
    undone = await clinic.command(undo_acknowledge, alert_id=alert.alert_id, by=COACH)
    assert (undone.alert.status, undone.alert.respond_by) == ("open", clinic.now)


async def test_an_alert_of_another_member_cannot_be_handled_in_this_ones_name(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    answer = await clinic.command(acknowledge, member_id=uuid4(), alert_id=alert.alert_id, by=STRANGER, seen=0)
    assert answer.reason == "no-such-alert"


async def test_alerts_of_somebody_who_left_the_team_ask_the_new_one(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    (moved,) = await clinic.take(follow_members, team_assigned(coach=STRANGER, at=clinic.now))
    assert (moved.data.owner, moved.data.repeated) == (STRANGER, True)
    assert await queue(clinic, COACH) == []
    assert len(await queue(clinic, STRANGER)) == 1


async def test_an_alert_that_was_put_off_by_somebody_who_left_the_team_asks_the_new_one_at_once(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    await clinic.command(snooze, alert_id=alert.alert_id, by=COACH, until=NOW + DAY, seen=alert.repeats)
    assert await queue(clinic, COACH) == []
    await clinic.take(follow_members, team_assigned(coach=STRANGER, at=NOW))
    (asking,) = await queue(clinic, STRANGER)
    assert (asking.status, asking.owner.practitioner, asking.snoozed_until) == ("open", STRANGER, None)


async def test_red_flag_words_alert_at_once_and_tell_the_member_what_to_do(clinic: Clinic) -> None:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    sent = await clinic.command(
        send_message, sender=member, message_id=uuid4(), body="My chest hurts since the squats", alert_id=None
    )
    assert [event.NAME for event in clinic.published] == ["message.sent", "alert.raised"]
    assert sent.screening.disposition == "emergency"
    assert "911" in sent.screening.instruction["en"]
    alert = await the_alert(clinic)
    assert (alert.kind, alert.priority, alert.owner.role) == ("safety", "emergency", "oncall")
    assert "squats" not in str(clinic.published), "events never hold the words"


async def test_every_red_flag_of_a_message_is_named_and_the_worst_says_how_urgent_it_is(clinic: Clinic) -> None:
    """Who is asked must not look at the one and overlook the other."""
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    body = "My knee is locked, the calf is swollen and now my foot is cold"
    await clinic.command(send_message, sender=member, message_id=uuid4(), body=body, alert_id=None)
    alert = await the_alert(clinic)
    assert alert.priority == "emergency"
    assert {"locked knee", "dvt risk", "cold numb foot"} <= set(alert.summary.partition(": ")[2].split(", "))


async def test_a_pt_who_is_on_call_acts_as_on_call_for_members_of_other_teams(clinic: Clinic) -> None:
    """Else the alert would leave the on-call role, and the one who took it on could not see it any more."""
    await clinic.take(raise_safety_alerts, flagged("emergency", "hot-swollen-joint"))
    alert = await the_alert(clinic)
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=STRANGER, seen=0)
    taken = (await the_alert(clinic)).owner
    assert (taken.role, taken.practitioner and taken.practitioner.name) == ("oncall", "Sam Stranger")
    assert len(await queue(clinic, STRANGER, oncall=True)) == 1
    sender = Sender(role="coach", sender_id=STRANGER.practitioner_id, name=STRANGER.name)
    sent = await clinic.command(
        send_message, sender=sender, message_id=uuid4(), body="Please call 911.", alert_id=alert.alert_id
    )
    assert sent.message.sender_role == "oncall"
    await clinic.command(undo_acknowledge, alert_id=alert.alert_id, by=STRANGER)
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=PT, seen=0)
    assert (await the_alert(clinic)).owner.role == "pt", "the member's own PT acts as such"


async def test_who_is_on_call_is_told_that_somebody_else_has_taken_it(clinic: Clinic) -> None:
    await clinic.take(raise_safety_alerts, flagged("emergency", "chest-pain-breathless"))
    alert, start = await the_alert(clinic), (await head(clinic)).last_number
    assert alert.owner.role == "oncall"
    await clinic.command(acknowledge, alert_id=alert.alert_id, by=PT, seen=alert.repeats)
    assert [one.change for one in await read(clinic, ONCALL_AUDIENCE, after=start)][:1] == ["acknowledged"]
