"""Who leaves the program has no visits any more, and gets none."""

from typing import Any
from uuid import uuid4

from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.plan_visits import book_visit
from shared.events import MemberDisenrolled
from shared.events.members import MemberDisenrolledData
from tests.messaging.conftest import Clinic
from tests.messaging.given import DAY, MEMBER, NOW
from tests.messaging.test_visits import book, hold, slots


async def leave(clinic: Clinic) -> tuple[MemberDisenrolled, list[Any]]:
    left = MemberDisenrolled(
        id=str(uuid4()), source="urn:careloop:enrollment", time=NOW, subject=MEMBER,
        data=MemberDisenrolledData(reason="coverage-ended", effective_on=NOW.date()),
    )  # fmt: skip
    return left, await clinic.take(follow_members, left)


async def test_visits_of_a_member_who_leaves_are_cancelled_by_the_system(clinic: Clinic) -> None:
    visit = await book(clinic)
    left, (cancelled,) = await leave(clinic)
    assert (cancelled.NAME, cancelled.data.visit_id, cancelled.data.cancelled_by) == (
        "visit.cancelled", visit.visit_id, "system",
    )  # fmt: skip
    assert cancelled.causationid == left.id
    assert await clinic.due_timers() == {}
    assert await clinic.pass_time(3 * DAY) == []


async def test_who_has_left_meets_nobody(clinic: Clinic) -> None:
    """Also where a time was held before they left."""
    held = await hold(clinic)
    await leave(clinic)
    book_held = await clinic.command(book_visit, MEMBER, visit_id=held.visit.visit_id, reason=None)
    refused = [book_held, await hold(clinic), await slots(clinic)]
    assert [answer.reason for answer in refused] == ["not-their-team"] * 3
