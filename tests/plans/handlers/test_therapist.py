"""What a physical therapist decides holds for the plan that they saw, as long as somebody is cared for by it."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.plans.domain.care_plan import CarePlan
from services.plans.domain.clinician import Override
from services.plans.handlers.follow_members import follow_members
from services.plans.handlers.follow_visits import follow_visits
from services.plans.handlers.override_plan import override_plan
from services.plans.handlers.sign_phases import sign_phases
from services.plans.store.care_plans import load_care_plans
from shared.commands import new_command
from shared.database import Connection
from shared.events import MemberDisenrolled
from shared.events.members import MemberDisenrolledData, Surgery
from shared.writing import write
from tests.fixtures.carrying_out import carry_out
from tests.plans.given import DAY, MONDAY, PT, member_enrolled, visit_completed

OPERATED = Surgery(procedure="total knee replacement", performed_on=MONDAY.date() - 40 * DAY, surgeon_cleared=True)
SURGERY: dict[str, Any] = {"cause": "post-surgical", "surgery": OPERATED}


async def enrolled(connection: Connection, **data: Any) -> UUID:
    member_id = uuid4()
    await carry_out(follow_members, connection, [member_enrolled(member_id, **data)], now=MONDAY)
    return member_id


async def leave(connection: Connection, member_id: UUID) -> None:
    left = MemberDisenrolled(
        id=str(uuid4()), source="urn:careloop:enrollment", time=MONDAY + DAY, subject=member_id,
        data=MemberDisenrolledData(reason="coverage-ended", effective_on=MONDAY.date()),
    )  # fmt: skip
    await carry_out(follow_members, connection, [left], now=MONDAY + DAY)


async def plan_of(connection: Connection, member_id: UUID) -> CarePlan:
    return (await load_care_plans(connection, member_ids=[member_id]))[member_id]


async def override(connection: Connection, member_id: UUID, *, version: int, sets: int = 4) -> Any:
    done = await override_plan(
        connection,
        member_id=member_id,
        override=Override(exercise="mini-squat", action="edit", reason="She can do more.", sets=sets),
        expected_version=version,
        practitioner_id=PT,
        command=new_command("override-plan", service="plans", member_ids=[member_id]),
        now=MONDAY + DAY,
    )
    await write(connection, done.outcomes.writes)
    return done


async def sign(connection: Connection, member_id: UUID, *, version: int, step: int = 0) -> Any:
    done = await sign_phases(
        connection,
        member_id=member_id,
        phase="weeks 2 to 6",
        steps={"mini-squat": step},
        expected_version=version,
        practitioner_id=PT,
        command=new_command("sign-phase", service="plans", member_ids=[member_id]),
        now=MONDAY + DAY,
    )
    await write(connection, done.outcomes.writes)
    return done


@pytest.mark.parametrize("version", [0, 1, 3, 2**31 - 1])
async def test_an_override_of_another_version_than_the_present_one_changes_nothing(
    connection: Connection, version: int
) -> None:
    """Whether that is over, or of a plan that the database has lost: they did not decide about this one."""
    member_id = await enrolled(connection)
    first = await override(connection, member_id, version=1)
    assert (first.refused, first.version, first.revised.revised_by) == (None, 2, PT)
    before = await plan_of(connection, member_id)
    refused = await override(connection, member_id, version=version, sets=5)
    assert (refused.refused, refused.version, refused.outcomes.published) == ("version-conflict", 2, [])
    assert await plan_of(connection, member_id) == before


async def test_a_phase_is_signed_for_the_present_version_only(connection: Connection) -> None:
    member_id = await enrolled(connection, **SURGERY)
    assert (await sign(connection, member_id, version=1)).refused == "version-conflict"
    assert (await sign(connection, member_id, version=0)).version == 1
    before = await plan_of(connection, member_id)
    for version in (0, 2):
        refused = await sign(connection, member_id, version=version, step=1)
        assert (refused.refused, refused.version, refused.outcomes.published) == ("version-conflict", 1, [])
    assert await plan_of(connection, member_id) == before


async def test_the_plan_of_who_has_left_is_changed_by_nobody(connection: Connection) -> None:
    """Nobody looks after what they would do by it."""
    member_id, operated = await enrolled(connection), await enrolled(connection, **SURGERY)
    assert (await sign(connection, operated, version=0)).refused is None
    for one in (member_id, operated):
        await leave(connection, one)
        before = await plan_of(connection, one)
        for done in (await override(connection, one, version=1), await sign(connection, one, version=1, step=1)):
            assert done.refused in ("care-ended", "not-post-surgical")
            assert done.outcomes.published == []
        assert await plan_of(connection, one) == before


async def test_a_visit_with_who_has_left_is_refused_and_changes_no_plan(connection: Connection) -> None:
    """It had begun when they left: its note is kept, and nobody is told of an easier plan."""
    member_id = await enrolled(connection)
    await leave(connection, member_id)
    before = await plan_of(connection, member_id)
    visit = visit_completed(member_id, at=MONDAY + DAY, action="step-back")
    outcomes = await carry_out(follow_visits, connection, [visit], now=MONDAY + DAY)
    assert (list(outcomes.refused.values()), outcomes.published) == (["care-ended"], [])
    assert await plan_of(connection, member_id) == before


async def test_without_a_plan_there_is_nothing_to_decide(connection: Connection) -> None:
    operated = await enrolled(connection, **SURGERY)
    for member_id in (uuid4(), operated):
        assert (await override(connection, member_id, version=0)).refused == "no-plan"
    assert (await sign(connection, uuid4(), version=0)).refused == "no-plan"
