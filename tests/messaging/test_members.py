"""What messaging keeps of members and their course, and who finds whom."""

from typing import Any
from uuid import uuid4

import pytest

from services.messaging.domain.conversation import start_conversation
from services.messaging.domain.people import MemberProfile
from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_contacts import follow_contacts
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.handle_alerts import acknowledge
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts
from services.messaging.store.conversations import load_message_reads, save_conversations, save_message_reads
from services.messaging.store.course import load_plan_snapshots
from services.messaging.store.feed import load_feed_head, look_at_feed
from services.messaging.store.members import load_care_teams, load_member_profiles, search_members
from services.messaging.store.pages_members import load_course
from services.messaging.store.rules import load_alert_rules
from services.messaging.store.timeline import load_chain, load_timeline
from shared.events import CloudEvent, ConsentChanged, MemberDisenrolled, MemberPaused, MemberResumed
from shared.events.members import ConsentChangedData, MemberDisenrolledData, MemberPausedData, MemberResumedData
from shared.events.vocabulary import Practitioner
from tests.fixtures.carrying_out import carry_out
from tests.messaging.conftest import Clinic
from tests.messaging.given import (
    COACH,
    DAY,
    MEMBER,
    MINUTE,
    NOW,
    ONCALL,
    OTHER_MEMBER,
    PT,
    STRANGER,
    contact,
    enrolled,
    flagged,
    plan_issued,
    plan_revised,
    session,
    spiked,
    team_assigned,
    usual_pain_changed,
)
from tests.messaging.test_alerts import the_alert


def about(event: type[CloudEvent], data: object) -> CloudEvent:
    return event(id=str(uuid4()), source="urn:careloop:enrollment", time=NOW, subject=MEMBER, data=data)  # type: ignore[call-arg,arg-type]


async def test_a_profile_follows_its_events_in_order(bare_clinic: Clinic) -> None:
    paused = about(MemberPaused, MemberPausedData(reason="holiday", until=NOW + DAY))
    await bare_clinic.take(
        follow_members,
        enrolled(),
        team_assigned(),
        about(ConsentChanged, ConsentChangedData(channel="sms", topic="nudge", granted=False, given_by="member")),
        paused,
    )
    await bare_clinic.take(follow_contacts, contact(given_name="Ann"), contact(given_name="Anna"))

    async def profile() -> MemberProfile:
        async with bare_clinic.database.acquire() as connection:
            return (await load_member_profiles(connection, member_ids=[MEMBER]))[MEMBER]

    seen = await profile()
    assert (seen.name, seen.status, seen.paused_until) == ("Anna Muster", "paused", NOW + DAY)
    assert (seen.pt, seen.coach, seen.state, seen.usual_pain) == (PT, COACH, "NY", 3)
    assert seen.consents == {"email all": True, "sms nudge": False}
    await bare_clinic.take(follow_members, about(MemberResumed, MemberResumedData(reason="back")))
    assert (await profile()).status == "active"
    left = MemberDisenrolledData(reason="completed", effective_on=NOW.date())
    await bare_clinic.take(follow_members, about(MemberDisenrolled, left))
    assert (await profile()).status == "disenrolled"


async def test_readings_sessions_and_flares_for_the_chart(clinic: Clinic) -> None:
    done = session(pain=7)
    await clinic.take(follow_activity, done)
    await clinic.take(follow_activity, done)
    await clinic.take(follow_plans, spiked(score=7), spiked(score=9, repeated=True, at=NOW + DAY))
    async with clinic.database.acquire() as connection:
        course = await load_course(connection, member_id=MEMBER, since=NOW - DAY)
    told = sorted((reading.context, reading.score) for reading in course.readings)
    assert told == [("during-exercise", 7), ("next-morning", 2), ("now", 3)]
    assert [(done.pain_during, done.exercises) for done in course.sessions] == [(7, 1)]
    (flare,) = course.episodes
    assert (flare.started_at, flare.score_max, flare.settled_at) == (NOW, 9, None)


async def test_usual_pain_is_what_plans_told_last_and_holds_until_it_tells_another(clinic: Clinic) -> None:
    changes = [usual_pain_changed(level, at=NOW + day * DAY) for day, level in ((0, 4.5), (10, 3), (20, 2))]
    await clinic.take(follow_plans, plan_issued(), *changes)
    await clinic.take(follow_plans, changes[1])
    async with clinic.database.acquire() as connection:
        whole = await load_course(connection, member_id=MEMBER, since=NOW - 84 * DAY)
        late = await load_course(connection, member_id=MEMBER, since=NOW + 15 * DAY)
        elsewhere = await load_course(connection, member_id=OTHER_MEMBER, since=NOW - 84 * DAY)
    levels = [(NOW, 4.5), (NOW + 10 * DAY, 3), (NOW + 20 * DAY, 2)]
    assert [(row.told_at, row.level) for row in whole.usual] == levels
    assert [(row.told_at, row.level) for row in late.usual] == levels[1:], "the one from before still holds"
    assert elsewhere.usual == ()


async def test_the_timeline_holds_every_event_once_with_its_numbers(clinic: Clinic) -> None:
    spike = spiked()
    await clinic.take(follow_plans, plan_issued(), spike, plan_revised(), flagged("emergency", "deformity"))
    await clinic.take(follow_plans, spike)
    async with clinic.database.acquire() as connection:
        entries = await load_timeline(connection, member_ids=[MEMBER])
        newest = await load_chain(connection, member_ids=[MEMBER], event_types=["pain.spiked"])
        elsewhere = await load_chain(connection, member_ids=[OTHER_MEMBER])
    lines = {entry.event_type: entry.summary for entry in entries}
    assert lines["pain.spiked"] == "pain 7, usual 3"
    assert lines["plan.revised"] == "plan version 2: mini squat regress 2 to 1"
    assert lines["plan.issued"] == "plan issued: overuse, 1 exercises, 3 a week"
    assert lines["care-team.assigned"] == "care team: Petra Therapist (PT), Cora Coach (coach)"
    assert lines["contact.changed"] == "contact changed", "no address, no number"
    assert len(entries) == len({(e.source, e.event_id) for e in entries})
    assert [e.event_id for e in newest] == [spike.id]
    assert elsewhere == []


async def test_who_left_a_team_is_told_of_it(clinic: Clinic) -> None:
    """Or their open window would go on showing a member whom they may not see any more."""
    async with clinic.database.acquire() as connection:
        before = (await load_feed_head(connection)).last_number
    await clinic.take(follow_members, team_assigned(coach=STRANGER, at=NOW))
    people = [person.practitioner_id for person in (PT, COACH, STRANGER)]
    async with clinic.database.acquire() as connection:
        told = (await look_at_feed(connection, audiences=people, after=before, limit=10)).entries
    assert [[(entry.change, entry.subject_id) for entry in told[one]] for one in people] == [[("team", MEMBER)]] * 3


async def test_a_change_of_the_team_leaves_on_call_what_went_up_to_it(clinic: Clinic) -> None:
    """The coach and the physical therapist let it pass: a new coach would have as long again."""
    await clinic.take(follow_plans, spiked())
    await clinic.pass_time(2 * load_alert_rules().respond_within["soon"])
    before = await the_alert(clinic)
    assert before.owner.role == "oncall"
    assert await clinic.take(follow_members, team_assigned(coach=STRANGER, at=clinic.now)) == []
    assert await the_alert(clinic) == before


async def test_the_plan_of_who_comes_back_takes_the_place_of_the_one_before(clinic: Clinic) -> None:
    """Though it begins with version 1."""
    first = plan_issued()
    await clinic.take(follow_plans, first, plan_revised())
    second = first.model_copy(update={"id": str(uuid4()), "data": first.data.model_copy(update={"plan_id": uuid4()})})
    await clinic.take(follow_plans, second)
    async with clinic.database.acquire() as connection:
        plan = (await load_plan_snapshots(connection, member_ids=[MEMBER]))[MEMBER]
    assert (plan.plan_id, plan.version) == (second.data.plan_id, 1)


async def test_members_are_found_by_name_by_their_own_team_only(clinic: Clinic) -> None:
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER, coach=STRANGER))
    await clinic.take(follow_contacts, contact(OTHER_MEMBER, given_name="Zoë", family_name="O'Neil-50%"))

    async def find(person: Practitioner, text: str = "") -> list[str | None]:
        async with clinic.database.acquire() as connection:
            found = await search_members(connection, practitioner_id=person.practitioner_id, oncall=False, text=text)
            return [profile.name for profile in found]

    assert await find(PT) == ["Marta Muster", "Zoë O'Neil-50%"]
    assert await find(COACH) == ["Marta Muster"]
    assert await find(PT, "mUST") == ["Marta Muster"]
    assert await find(PT, "50%") == ["Zoë O'Neil-50%"]
    assert await find(COACH, "Zoë") == []


async def test_a_zone_this_machine_does_not_know_does_not_break_the_slots(bare_clinic: Clinic) -> None:
    event = enrolled()
    odd = event.model_copy(update={"data": event.data.model_copy(update={"time_zone": "Mars/Olympus"})})
    await bare_clinic.take(follow_members, odd, team_assigned())
    zones = await bare_clinic.fetch("select distinct time_zone from practitioners")
    assert [row["time_zone"] for row in zones] == ["America/New_York"]


async def test_the_number_of_statements_does_not_grow_with_the_chunk(clinic: Clinic) -> None:
    """A statement in a loop would be the end of the throughput."""

    async def statements(members: int) -> int:
        ids = [uuid4() for _ in range(members)]
        events = [e for m in ids for e in (plan_issued(m), spiked(m, episode=uuid4()), plan_revised(m))]
        asked: list[str] = []
        async with clinic.transaction(*ids) as connection:
            with connection.query_logger(lambda record: asked.append(record.query)):
                await carry_out(follow_plans, connection, events, now=NOW)
        return len(asked)

    await statements(1)
    assert await statements(2) == await statements(60)


async def test_absent_people_are_known_while_they_are_away(clinic: Clinic) -> None:
    await clinic.database.execute(
        "insert into practitioner_absences values ($1, $2, tstzrange($3, $4))",
        uuid4(),
        PT.practitioner_id,
        NOW,
        NOW + DAY,
    )
    async with clinic.database.acquire() as connection:
        for at, absent in ((NOW, {PT.practitioner_id}), (NOW + DAY, set())):
            teams = await load_care_teams(connection, member_ids=[MEMBER], now=at)
            assert teams[MEMBER].absent == absent


async def test_what_was_read_stays_read(clinic: Clinic) -> None:
    """Given a window that is behind, when it says how far it has read, then nobody is shown as having read less."""
    person = PT.practitioner_id
    async with clinic.transaction() as connection:
        await save_conversations(connection, [start_conversation(member_id=MEMBER)])
        for number in (5, 3):
            await save_message_reads(connection, member_ids=[MEMBER], reader_ids=[person], numbers=[number], now=NOW)
        assert await load_message_reads(connection, member_ids=[MEMBER]) == {MEMBER: {person: 5}}


@pytest.mark.parametrize(
    ("event", "handler", "asked"),
    [
        (spiked(), follow_plans, COACH),
        (flagged("clinician-72h", "night-pain"), raise_safety_alerts, PT),
        (flagged("emergency", "chest-pain-breathless"), raise_safety_alerts, None),
    ],
    ids=["a spike", "a red flag", "an emergency"],
)
async def test_what_is_read_before_its_members_team_asks_the_team_when_that_is_there(
    bare_clinic: Clinic, event: CloudEvent, handler: Any, asked: Practitioner | None
) -> None:
    clinic = bare_clinic
    (raised,) = await clinic.take(handler, event)
    assert (raised.data.owner, raised.data.owner_role) == (None, "oncall")
    clinic.now += MINUTE
    told = await clinic.take(follow_members, enrolled(), team_assigned())
    alert = await the_alert(clinic)
    assert (alert.status, alert.owner.practitioner) == ("open", asked)
    if asked is None:
        assert (told, alert.respond_by) == ([], raised.data.respond_by), "who is on call is asked as before"
        return
    (moved,) = told
    assert (moved.data.owner, moved.data.repeated) == (asked, True)
    within = load_alert_rules().respond_within[alert.priority]
    assert (alert.level, alert.respond_by) == (0, clinic.now + within)
    # The next team is a change as any other: who stays in it keeps the alert.
    assert await clinic.take(follow_members, team_assigned(at=clinic.now)) == []


@pytest.mark.parametrize("does", ["acknowledges", "lets the time pass"])
async def test_what_the_on_call_role_has_taken_on_or_let_pass_stays_theirs(bare_clinic: Clinic, does: str) -> None:
    clinic = bare_clinic
    (raised,) = await clinic.take(follow_plans, spiked())
    if does == "acknowledges":
        await clinic.command(acknowledge, alert_id=raised.data.alert_id, by=ONCALL, seen=0)
    else:
        await clinic.pass_time(load_alert_rules().respond_within["soon"] + MINUTE)
    before = await the_alert(clinic)
    assert await clinic.take(follow_members, enrolled(), team_assigned()) == []
    assert await the_alert(clinic) == before
    assert before.owner.role == "oncall"
