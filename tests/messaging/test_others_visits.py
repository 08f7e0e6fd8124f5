"""What a command about one member's visit leaves alone: the holds, alerts and hours of others, and what has begun."""

import asyncio
from datetime import time
from typing import Any
from uuid import uuid4

import pytest

from services.messaging.domain.slots import Span, WeeklyHours
from services.messaging.domain.visit import Visit
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.plan_visits import (
    TAKEN,
    VisitPlanned,
    book_visit,
    complete_booking,
    hold_slot,
    release_hold,
    reschedule_visit,
)
from services.messaging.handlers.send_message import MessageTaken, Sender, send_message
from services.messaging.store.visits import load_calendars, load_visits, save_practitioner_hours
from shared.events import MemberDisenrolled
from shared.events.members import MemberDisenrolledData
from shared.events.visits import VisitRecommendation
from shared.events.vocabulary import Practitioner
from tests.fixtures.eventually import eventually
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
    enrolled,
    spiked,
    team_assigned,
)
from tests.messaging.test_alert_races import NEW_PT
from tests.messaging.test_alerts import the_alert
from tests.messaging.test_feed import head, read
from tests.messaging.test_visits import RULES, TUESDAY_10, book, hold


@pytest.fixture
async def two_of_a_team(clinic: Clinic) -> Clinic:
    """MEMBER and OTHER_MEMBER, with the same care team."""
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER))
    return clinic


async def standing(clinic: Clinic, visit: Visit) -> Visit:
    async with clinic.database.acquire() as connection:
        return (await load_visits(connection, visit_ids=[visit.visit_id]))[visit.visit_id]


async def weekdays(clinic: Clinic, person: Practitioner) -> set[int]:
    async with clinic.database.acquire() as connection:
        window = Span(starts_at=NOW, ends_at=NOW + DAY)
        calendars = await load_calendars(connection, practitioner_ids=[person.practitioner_id], window=window)
    return {hours.weekday for hours in calendars[person.practitioner_id].hours}


@pytest.mark.parametrize("handler", [book_visit, release_hold])
async def test_nobody_books_or_gives_back_the_hold_of_another_member(two_of_a_team: Clinic, handler: Any) -> None:
    clinic, held = two_of_a_team, (await hold(two_of_a_team)).visit
    values: dict[str, Any] = {"reason": None} if handler is book_visit else {}
    refused = await clinic.command(handler, OTHER_MEMBER, visit_id=held.visit_id, **values)
    assert refused.reason == "no-such-visit"
    assert await standing(clinic, held) == held


async def test_a_hold_leaves_those_of_other_members(two_of_a_team: Clinic) -> None:
    clinic, held = two_of_a_team, (await hold(two_of_a_team)).visit
    await hold(clinic, member_id=OTHER_MEMBER, at=TUESDAY_10 + HOUR)
    assert isinstance(await clinic.command(book_visit, visit_id=held.visit_id, reason=None), VisitPlanned)


async def test_a_hold_that_somebody_takes_over_while_it_is_booked_is_no_booking(two_of_a_team: Clinic) -> None:
    """They came in its last moment, and the other one a moment later: only one of them is told of a visit."""
    clinic, held = two_of_a_team, (await hold(two_of_a_team)).visit
    values: dict[str, Any] = {"visit_id": uuid4(), "practitioner_id": PT.practitioner_id, "starts_at": TUESDAY_10}
    command = clinic.new_command("hold-slot", OTHER_MEMBER)
    async with clinic.transaction(OTHER_MEMBER) as connection:
        taken = await hold_slot(
            connection, **values, reason="other", alert_id=None, command=command, now=clinic.now + RULES.hold_for
        )
        assert isinstance(taken, VisitPlanned)
        booking = asyncio.create_task(clinic.command(book_visit, visit_id=held.visit_id, reason=None))

        async def is_held_up() -> bool:
            who = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            return bool(await clinic.fetch(who))

        await eventually(is_held_up, what="the booking has come to the row of its hold")
    assert (await booking) == TAKEN
    assert [event.NAME for event in clinic.published if event.NAME.startswith("visit.")] == []
    assert set(await clinic.due_timers()) == {"visit.hold"}


async def test_a_visit_is_not_held_in_the_context_of_another_members_alert(two_of_a_team: Clinic) -> None:
    """What follows for the visit would name the other's alert as its cause."""
    await two_of_a_team.take(follow_plans, spiked())
    alert = await the_alert(two_of_a_team)
    refused = await hold(two_of_a_team, member_id=OTHER_MEMBER, alert_id=alert.alert_id)
    assert refused.reason == "no-such-alert"
    assert isinstance(await hold(two_of_a_team, alert_id=alert.alert_id), VisitPlanned)


async def test_a_visit_moved_to_somebody_else_at_the_same_time_is_theirs(clinic: Clinic) -> None:
    visit = await book(clinic)
    moved = await clinic.command(
        reschedule_visit, visit_id=visit.visit_id, practitioner_id=COACH.practitioner_id, starts_at=TUESDAY_10,
        by_member=False,
    )  # fmt: skip
    assert moved.visit.practitioner == COACH
    assert (await standing(clinic, visit)).practitioner == COACH
    assert clinic.published[-1].NAME == "visit.rescheduled"


async def test_who_had_the_visit_and_left_the_team_sees_it_leave(clinic: Clinic) -> None:
    visit = await book(clinic)
    await clinic.take(follow_members, team_assigned(pt=NEW_PT))
    start = (await head(clinic)).last_number
    await clinic.command(
        reschedule_visit, visit_id=visit.visit_id, practitioner_id=NEW_PT.practitioner_id, starts_at=TUESDAY_10 + HOUR,
        by_member=False,
    )  # fmt: skip
    assert [entry.subject_id for entry in await read(clinic, PT.practitioner_id, after=start)] == [visit.visit_id]


async def test_a_visit_that_has_begun_when_its_member_leaves_is_documented_or_missed(clinic: Clinic) -> None:
    visit = await book(clinic)
    clinic.now = TUESDAY_10 + 10 * MINUTE
    left = MemberDisenrolled(
        id=str(uuid4()), source="urn:careloop:enrollment", time=clinic.now, subject=MEMBER,
        data=MemberDisenrolledData(reason="coverage-ended", effective_on=NOW.date()),
    )  # fmt: skip
    assert await clinic.take(follow_members, left) == []
    assert list(await clinic.due_timers()) == ["visit.missed"]
    advice = VisitRecommendation(action="continue")
    done = await clinic.command(complete_booking, visit_id=visit.visit_id, recommendation=advice, note=None)
    assert done.visit.status == "completed"


async def test_the_hours_that_one_enters_leave_those_of_others(clinic: Clinic) -> None:
    before = await weekdays(clinic, COACH)
    assert len(before) > 1
    hours = [WeeklyHours(weekday=2, starts_at=time(8), ends_at=time(10))]
    async with clinic.database.acquire() as connection, connection.transaction():
        await save_practitioner_hours(
            connection, practitioner_id=PT.practitioner_id, time_zone="America/New_York", hours=hours
        )
    assert (await weekdays(clinic, PT), await weekdays(clinic, COACH)) == ({2}, before)


async def test_the_same_message_id_for_another_member_is_no_repeat(two_of_a_team: Clinic) -> None:
    """Who writes the same words to two members under one key is not told that the second has them."""
    clinic, message_id = two_of_a_team, uuid4()
    values: dict[str, Any] = {
        "sender": Sender(role="coach", sender_id=COACH.practitioner_id, name=COACH.name),
        "message_id": message_id, "body": "Well done!", "alert_id": None,
    }  # fmt: skip
    assert isinstance(await clinic.command(send_message, **values), MessageTaken)
    assert (await clinic.command(send_message, OTHER_MEMBER, **values)).reason == "message-id-taken"
    assert [row["member_id"] for row in await clinic.fetch("select member_id from messages")] == [MEMBER]
