"""Holds and bookings on a real database: nobody is ever in two visits at once."""

import asyncio
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.messaging.domain.slots import Span, WeeklyHours
from services.messaging.domain.visit import Visit
from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_contacts import follow_contacts
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.plan_visits import (
    VisitPlanned,
    book_visit,
    cancel_booking,
    complete_booking,
    hold_slot,
    list_slots,
    release_hold,
    reschedule_visit,
)
from services.messaging.handlers.send_message import Sender, send_message
from services.messaging.store.alerts import load_member_alerts
from services.messaging.store.course import load_plan_snapshots
from services.messaging.store.pages_members import load_plan_changes
from services.messaging.store.rules import load_visit_rules
from services.messaging.store.timeline import load_chain
from services.messaging.store.visits import (
    hold_visits,
    load_calendars,
    load_member_visits,
    load_visits,
    save_absences,
    save_practitioner_hours,
)
from shared.events.visits import VisitRecommendation
from shared.events.vocabulary import Practitioner
from shared.outcomes import Refusal
from tests.messaging.conftest import Clinic
from tests.messaging.given import (
    COACH,
    DAY,
    HOUR,
    MEMBER,
    MINUTE,
    NOW,
    OTHER_MEMBER,
    PT,
    STRANGER,
    contact,
    enrolled,
    plan_issued,
    plan_revised,
    session,
    spiked,
    team_assigned,
)

RULES = load_visit_rules()
TUESDAY_10 = datetime(2026, 9, 8, 14, 0, tzinfo=UTC)
"""10:00 in New York."""


async def hold(
    clinic: Clinic, *, at: datetime = TUESDAY_10, member_id: UUID = MEMBER, person: Practitioner = PT,
    alert_id: UUID | None = None,
) -> Any:  # fmt: skip
    return await clinic.command(
        hold_slot, member_id, visit_id=uuid4(), practitioner_id=person.practitioner_id, starts_at=at,
        reason="other", alert_id=alert_id,
    )  # fmt: skip


async def book(clinic: Clinic, **values: Any) -> Visit:
    held = await hold(clinic, **values)
    assert isinstance(held, VisitPlanned), held
    booked = await clinic.command(
        book_visit, values.get("member_id", MEMBER), visit_id=held.visit.visit_id, reason=None
    )
    assert isinstance(booked, VisitPlanned), booked
    return booked.visit


async def slots(clinic: Clinic, *, member_id: UUID = MEMBER, person: Practitioner = PT) -> Any:
    start = datetime(2026, 9, 8, 4, 0, tzinfo=UTC)
    async with clinic.database.acquire() as connection:
        return await list_slots(
            connection, member_id=member_id, practitioner_id=person.practitioner_id,
            window=Span(starts_at=start, ends_at=start + DAY), now=clinic.now,
        )  # fmt: skip


@pytest.fixture
async def two_members(clinic: Clinic) -> Clinic:
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER))
    await clinic.take(follow_contacts, contact(OTHER_MEMBER, given_name="Otto", family_name="Ander"))
    return clinic


async def test_a_practitioner_without_hours_is_offered_the_default_week_in_the_members_zone(clinic: Clinic) -> None:
    offered = await slots(clinic)
    assert len(offered) == 16
    assert offered[0].starts_at == datetime(2026, 9, 8, 13, 0, tzinfo=UTC)
    async with clinic.database.acquire() as connection:
        window = Span(starts_at=NOW, ends_at=NOW + DAY)
        calendars = await load_calendars(connection, practitioner_ids=[PT.practitioner_id], window=window)
    assert calendars[PT.practitioner_id].hours_assumed


async def test_their_own_hours_and_absences_are_kept(clinic: Clinic) -> None:
    hours = [WeeklyHours(weekday=2, starts_at=time(8), ends_at=time(10))]
    async with clinic.database.acquire() as connection, connection.transaction():
        assert await save_practitioner_hours(
            connection, practitioner_id=PT.practitioner_id, time_zone="America/Chicago", hours=hours
        )
        away = Span(starts_at=TUESDAY_10, ends_at=TUESDAY_10 + 30 * MINUTE)
        await save_absences(connection, absence_ids=[uuid4()], practitioner_ids=[PT.practitioner_id], spans=[away])
        assert not await save_practitioner_hours(
            connection, practitioner_id=STRANGER.practitioner_id, time_zone="UTC", hours=hours
        )
    assert [slot.starts_at for slot in await slots(clinic)] == [
        TUESDAY_10 - HOUR, TUESDAY_10 - 30 * MINUTE, TUESDAY_10 + 30 * MINUTE,
    ]  # fmt: skip
    await clinic.take(follow_members, team_assigned())
    assert len(await slots(clinic)) == 3, "hours that were entered are not assumed again"


async def test_only_the_care_team_can_be_met(clinic: Clinic) -> None:
    assert (await hold(clinic, person=STRANGER)).reason == "not-their-team"
    assert (await slots(clinic, person=STRANGER)).reason == "not-their-team"
    assert (await hold(clinic, member_id=uuid4())).reason == "not-their-team"


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (NOW - DAY, "too-soon"),
        (NOW + 10 * MINUTE, "too-soon"),
        (NOW + 61 * DAY, "too-far"),
        (TUESDAY_10 + 10 * MINUTE, "slot-taken"),
        (TUESDAY_10 - 6 * HOUR, "slot-taken"),
    ],
)
async def test_what_is_not_a_slot_cannot_be_held(clinic: Clinic, at: datetime, reason: str) -> None:
    assert (await hold(clinic, at=at)).reason == reason


async def test_a_hold_lasts_five_minutes(two_members: Clinic) -> None:
    clinic = two_members
    held = await hold(clinic)
    assert held.visit.hold_expires_at == clinic.now + 5 * MINUTE
    assert (await hold(clinic, member_id=OTHER_MEMBER)).reason == "slot-taken"
    assert TUESDAY_10 not in [slot.starts_at for slot in await slots(clinic, member_id=OTHER_MEMBER)]
    await clinic.pass_time(4 * MINUTE)
    assert (await hold(clinic, member_id=OTHER_MEMBER)).reason == "slot-taken"
    await clinic.pass_time(MINUTE)
    assert await clinic.fetch("select 1 from visits") == []
    late = await clinic.command(book_visit, visit_id=held.visit.visit_id, reason=None)
    assert late.reason == "no-such-visit"
    assert isinstance(await hold(clinic, member_id=OTHER_MEMBER), VisitPlanned)


async def test_a_hold_that_is_over_gives_way_before_its_timer_runs(two_members: Clinic) -> None:
    clinic = two_members
    held = await hold(clinic)
    clinic.now += 6 * MINUTE
    assert (await clinic.command(book_visit, visit_id=held.visit.visit_id, reason=None)).reason == "hold-expired"
    assert isinstance(await hold(clinic, member_id=OTHER_MEMBER), VisitPlanned)


async def test_a_member_has_one_hold_and_may_give_it_back(clinic: Clinic) -> None:
    first = await hold(clinic)
    second = await hold(clinic, at=TUESDAY_10 + HOUR)
    assert [row["visit_id"] for row in await clinic.fetch("select visit_id from visits")] == [second.visit.visit_id]
    assert (await clinic.command(book_visit, visit_id=first.visit.visit_id, reason=None)).reason == "no-such-visit"
    assert isinstance(await clinic.command(release_hold, visit_id=second.visit.visit_id), VisitPlanned)
    assert await clinic.fetch("select 1 from visits") == []
    assert await clinic.due_timers() == {}


async def test_booking_is_told_once_however_often_it_is_sent(clinic: Clinic) -> None:
    visit = await book(clinic)
    again = await clinic.command(book_visit, visit_id=visit.visit_id, reason=None)
    assert again.visit.status == "booked"
    (booked,) = [event for event in clinic.published if event.NAME == "visit.booked"]
    assert (booked.data.starts_at, booked.data.practitioner, booked.data.time_zone) == (
        TUESDAY_10,
        PT,
        "America/New_York",
    )
    assert await clinic.due_timers() == {"visit.missed": TUESDAY_10 + 30 * MINUTE + RULES.missed_after}


async def test_a_member_cannot_be_with_two_people_at_once(clinic: Clinic) -> None:
    await book(clinic)
    assert (await hold(clinic, person=COACH)).reason == "slot-taken"


async def test_many_members_at_once_get_one_time_once(clinic: Clinic) -> None:
    members = [uuid4() for _ in range(12)]
    for member in members:
        await clinic.take(follow_members, enrolled(member), team_assigned(member))
    answers = await asyncio.gather(*(hold(clinic, member_id=member) for member in members))
    won = [answer for answer in answers if isinstance(answer, VisitPlanned)]
    assert len(won) == 1
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {"slot-taken"}
    assert await clinic.database.fetchval("select count(*) from visits") == 1


async def test_two_transactions_that_both_saw_the_time_free_cannot_both_have_it(two_members: Clinic) -> None:
    clinic = two_members
    held = (await hold(clinic)).visit
    await clinic.command(release_hold, visit_id=held.visit_id)

    def wanted(member_id: UUID) -> Visit:
        values = {name: getattr(held, name) for name in Visit.__dataclass_fields__}
        return Visit(**{**values, "visit_id": uuid4(), "member_id": member_id})

    async def take(member_id: UUID, *, first: asyncio.Event, go: asyncio.Event) -> set[UUID]:
        async with clinic.transaction(member_id) as connection:
            first.set()
            await go.wait()
            return await hold_visits(connection, [wanted(member_id)], now=clinic.now)

    # Both transactions are open before either inserts: only the constraint can tell them apart.
    began, go = [asyncio.Event(), asyncio.Event()], asyncio.Event()
    runs = [
        asyncio.create_task(take(member, first=event, go=go))
        for member, event in zip((MEMBER, OTHER_MEMBER), began, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in began))
    go.set()
    assert sorted(len(got) for got in await asyncio.gather(*runs)) == [0, 1]


async def test_the_database_refuses_a_double_booking_whatever_the_code_does(two_members: Clinic) -> None:
    clinic = two_members
    await book(clinic)
    other = await book(clinic, member_id=OTHER_MEMBER, at=TUESDAY_10 + HOUR)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await clinic.database.execute(
            "update visits set during = tstzrange($2, $3) where visit_id = $1",
            other.visit_id, TUESDAY_10 + 15 * MINUTE, TUESDAY_10 + 45 * MINUTE,
        )  # fmt: skip


async def test_visits_that_touch_do_not_overlap(two_members: Clinic) -> None:
    clinic = two_members
    await book(clinic)
    await book(clinic, member_id=OTHER_MEMBER, at=TUESDAY_10 + 30 * MINUTE)


async def test_moving_frees_the_old_time_and_takes_the_new_one(two_members: Clinic) -> None:
    clinic = two_members
    visit = await book(clinic)
    taken = await book(clinic, member_id=OTHER_MEMBER, at=TUESDAY_10 + HOUR)
    values: dict[str, Any] = {"visit_id": visit.visit_id, "practitioner_id": PT.practitioner_id, "by_member": True}
    assert (await clinic.command(reschedule_visit, MEMBER, **values, starts_at=taken.starts_at)).reason == "slot-taken"
    moved = await clinic.command(reschedule_visit, MEMBER, **values, starts_at=TUESDAY_10 + 2 * HOUR)
    assert moved.visit.starts_at == TUESDAY_10 + 2 * HOUR
    told = clinic.published[-1]
    assert (told.NAME, told.data.rescheduled_by) == ("visit.rescheduled", "member")
    assert told.data.previous_starts_at == TUESDAY_10
    assert TUESDAY_10 in [slot.starts_at for slot in await slots(clinic)]
    missed = {event.subject: event for event in await clinic.pass_time(2 * DAY) if event.NAME == "visit.missed"}[MEMBER]
    assert (missed.time > TUESDAY_10 + 2 * HOUR, missed.causationid) == (True, told.id), "what happened to it last"


async def test_a_move_is_told_once_however_often_it_is_sent(clinic: Clinic) -> None:
    visit = await book(clinic)
    values: dict[str, Any] = {
        "visit_id": visit.visit_id, "practitioner_id": PT.practitioner_id, "starts_at": TUESDAY_10 + HOUR,
        "by_member": True,
    }  # fmt: skip
    first, again = [await clinic.command(reschedule_visit, MEMBER, **values) for _ in range(2)]
    assert again.visit == first.visit
    assert [event.NAME for event in clinic.published if event.NAME.startswith("visit.")] == [
        "visit.booked", "visit.rescheduled",
    ]  # fmt: skip


async def test_a_move_that_comes_late_does_not_undo_the_next_one(clinic: Clinic) -> None:
    """Given a move whose answer was lost and a second one, when the first is sent again and says what it saw, then it
    is refused; without saying so it would move the visit back."""
    visit = await book(clinic)
    values: dict[str, Any] = {"visit_id": visit.visit_id, "practitioner_id": PT.practitioner_id, "by_member": True}
    first = {**values, "starts_at": TUESDAY_10 + HOUR, "moved_from": TUESDAY_10}
    await clinic.command(reschedule_visit, MEMBER, **first)
    assert (await clinic.command(reschedule_visit, MEMBER, **first)).visit.starts_at == TUESDAY_10 + HOUR
    second = {**values, "starts_at": TUESDAY_10 + 2 * HOUR, "moved_from": TUESDAY_10 + HOUR}
    await clinic.command(reschedule_visit, MEMBER, **second)
    late = await clinic.command(reschedule_visit, MEMBER, **first)
    assert late.reason == "moved-meanwhile"
    async with clinic.database.acquire() as connection:
        standing = (await load_visits(connection, visit_ids=[visit.visit_id]))[visit.visit_id]
    assert standing.starts_at == TUESDAY_10 + 2 * HOUR


async def test_a_cancelled_time_is_free_and_never_missed(clinic: Clinic) -> None:
    visit = await book(clinic)
    await clinic.command(cancel_booking, visit_id=visit.visit_id, by_member=False)
    assert clinic.published[-1].data.cancelled_by == "practitioner"
    assert TUESDAY_10 in [slot.starts_at for slot in await slots(clinic)]
    assert await clinic.pass_time(3 * DAY) == []
    told, again = len(clinic.published), await clinic.command(cancel_booking, visit_id=visit.visit_id, by_member=True)
    assert (again.visit.status, len(clinic.published)) == ("cancelled", told), "told once"


async def test_a_visit_nobody_completes_is_missed_alerts_and_may_be_documented_late(clinic: Clinic) -> None:
    visit = await book(clinic)
    advice = VisitRecommendation(action="continue")
    early = await clinic.command(complete_booking, visit_id=visit.visit_id, recommendation=advice, note=None)
    assert early.reason == "not-started"
    missed, raised = await clinic.pass_time(TUESDAY_10 - NOW + 30 * MINUTE + RULES.missed_after)
    assert (missed.NAME, raised.NAME, raised.data.kind) == ("visit.missed", "alert.raised", "missed-visit")
    assert raised.causationid == missed.id
    done = await clinic.command(complete_booking, visit_id=visit.visit_id, recommendation=advice, note="She did come.")
    assert done.visit.status == "completed"
    (noted,) = [event for event in clinic.published if event.NAME == "visit.completed"]
    assert noted.data.starts_at == TUESDAY_10, "when it took place, not when its note was written"
    told = len(clinic.published)
    same: dict[str, Any] = {"visit_id": visit.visit_id, "recommendation": advice, "note": "She did come."}
    assert (await clinic.command(complete_booking, **same)).visit == done.visit
    assert len(clinic.published) == told, "it is told once however often it is sent"
    assert (await clinic.command(complete_booking, **{**same, "note": "He did."})).reason == "not-booked"
    assert (await clinic.command(cancel_booking, visit_id=visit.visit_id, by_member=True)).reason == "not-booked"
    async with clinic.database.acquire() as connection:
        (alert,) = await load_member_alerts(connection, member_ids=[MEMBER])
    assert (alert.status, alert.outcome) == ("resolved", "reached-member")
    assert "She did come" not in str([event.model_dump() for event in clinic.published]), "the note stays here"


@pytest.mark.parametrize("is_behind", [False, True])
async def test_the_chain_from_a_session_to_the_visit_is_connected(clinic: Clinic, is_behind: bool) -> None:
    """Also for a coach who answers before the alert's own event has come back from Kafka."""
    clinic.is_behind = is_behind
    done = session(pain=7)
    spike = spiked(causationid=done.id, causationsource=done.source, correlationid=done.chain)
    revised = plan_revised(causationid=done.id, causationsource=done.source, correlationid=done.chain)
    await clinic.take(follow_activity, done)
    await clinic.take(follow_plans, plan_issued(), spike, revised)
    async with clinic.database.acquire() as connection:
        (alert,) = await load_member_alerts(connection, member_ids=[MEMBER])
    coach = Sender(role="coach", sender_id=COACH.practitioner_id, name=COACH.name)
    await clinic.command(
        send_message, sender=coach, message_id=uuid4(), body="Let us look at it.", alert_id=alert.alert_id
    )
    visit = await book(clinic, alert_id=alert.alert_id)
    assert visit.reason == "pain-spike"
    clinic.now = TUESDAY_10 + 30 * MINUTE
    advice = VisitRecommendation(action="step-back", exercises=("mini-squat",))
    await clinic.command(complete_booking, visit_id=visit.visit_id, recommendation=advice, note=None)
    await clinic.catch_up()

    async with clinic.database.acquire() as connection:
        chain = await load_chain(connection, member_ids=[MEMBER], correlation_id=done.chain)
        snapshots = await load_plan_snapshots(connection, member_ids=[MEMBER])
        steps = await load_plan_changes(connection, member_id=MEMBER)
        visits = await load_member_visits(connection, member_ids=[MEMBER])
    by_id = {(entry.source, entry.event_id): entry for entry in chain}
    arrows = {
        (by_id[cause].event_type, entry.event_type)
        for entry in chain
        if (cause := (entry.caused_by_source, entry.caused_by_id)) in by_id
    }
    assert arrows == {
        ("session.completed", "pain.spiked"),
        ("session.completed", "plan.revised"),
        ("pain.spiked", "alert.raised"),
        ("alert.raised", "message.sent"),
        ("alert.raised", "visit.booked"),
        ("visit.booked", "visit.completed"),
    }
    assert chain[0].event_type == "session.completed"
    assert "pain 7" in chain[0].summary
    assert snapshots[MEMBER].version == 2
    assert snapshots[MEMBER].pathway == "overuse", "a revision keeps what it does not tell"
    assert len(snapshots[MEMBER].elements) == 6
    assert [(step.exercise, step.from_step, step.to_step) for step in steps] == [("mini-squat", 2, 1)]
    assert visits[0].recommendation == advice
