"""Members of enrollment with what its timers are about: coverage, a care team, a pause, a place on the waiting list."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

from deploy.contracts.examples import EXAMPLES
from services.enrollment.domain.care_team import PanelMember
from services.enrollment.domain.coverage import Sponsor
from services.enrollment.domain.membership import Membership
from services.enrollment.store.intakes import Intake, save_intake
from services.enrollment.store.memberships import save_contacts, save_memberships
from services.enrollment.store.practitioners import close_panels, move_panel_load, save_practitioners
from services.enrollment.store.sponsors import save_sponsors
from shared.events import ContactChanged, MemberEnrolled
from shared.events.envelope import event_type
from shared.outcomes import Cause, Timer
from shared.timers import save_timers
from tests.statements.chunks import Desk
from tests.statements.counting import transaction
from tests.statements.story import STORY, member_of

NOW = STORY[-1].time
PANEL_LIMIT = 10_000
CONTACT: Any = EXAMPLES[event_type(ContactChanged)].data
ENROLMENT: Any = EXAMPLES[event_type(MemberEnrolled)].data
COVER = """
insert into coverages (
    sponsor_id, person_id, date_of_birth, state, effective_from, effective_to, changed_by, changed_at)
select $1, person_id, '1980-05-17', 'NY', '2026-01-01', $3, $4, $5 from unnest($2::text[]) as p(person_id)
"""
ROSTER = """
insert into roster_imports (import_id, sponsor_id, mode, state, received_by, received_at)
values ($1, $2, 'full', 'applied', 'test', $3)
"""


async def _enrol(desk: Desk, numbers: Sequence[int], kind: str, **changes: Any) -> tuple[UUID, UUID]:
    """Covered until today, with a care team of their own and a timer of this kind; who the PT and the coach are."""
    sponsor_id, import_id, pt, coach = uuid4(), uuid4(), uuid4(), uuid4()
    members = [
        Membership(
            member_id=member_of(number), sponsor_id=sponsor_id, person_id=str(number), status="enrolled",
            status_reason="intake", status_since=NOW, state="NY", language="en", time_zone="America/New_York",
            intake_id=uuid4(), pt_id=pt, coach_id=coach,
        )
        for number in numbers
    ]  # fmt: skip
    async with transaction(desk.database) as (connection, _):
        sponsor = Sponsor(
            sponsor_id=sponsor_id, name="Example Mills", states=("NY",), covers_from=date(2026, 1, 1), covers_until=None
        )
        await save_sponsors(connection, [sponsor], now=NOW)
        await connection.execute(ROSTER, import_id, sponsor_id, NOW)
        persons = [member.person_id for member in members]
        await connection.execute(COVER, sponsor_id, persons, NOW.date(), import_id, NOW)
        await save_practitioners(connection, [_panel(pt, "pt"), _panel(coach, "coach")], now=NOW)
        for member in members:
            await save_intake(connection, _intake(member))
        await save_memberships(connection, [replace(member, **changes) for member in members])
        if "pt_id" not in changes:
            await move_panel_load(connection, taken=[pt, coach] * len(members), released=[])
        await save_contacts(connection, {member.member_id: CONTACT for member in members})
        await save_timers(connection, [_timer(kind, member.member_id) for member in members])
    return pt, coach


def _panel(practitioner_id: UUID, role: Any) -> PanelMember:
    return PanelMember(
        practitioner_id=practitioner_id, role=role, name=f"Sam {role}", licensed_states=frozenset({"NY"}),
        languages=frozenset({"en"}), time_zone="America/New_York", panel_limit=PANEL_LIMIT, panel_size=0,
        accepting=True,
    )  # fmt: skip


def _intake(member: Membership) -> Intake:
    return Intake(
        intake_id=member.intake_id, member_id=member.member_id, taken_at=NOW, findings=(), disposition="none",
        rule_id="intake", rule_version=1, enrolment=ENROLMENT, channels=("email",),
    )  # fmt: skip


def _timer(kind: str, member_id: UUID) -> Timer:
    cause = Cause(source="urn:test:app", id="cause", chain="chain")
    return Timer(kind=kind, key=str(member_id), member_id=member_id, due_at=NOW, cause=cause)


async def _in_care(desk: Desk, numbers: Sequence[int], kind: str) -> None:
    await _enrol(desk, numbers, kind)


async def _paused(desk: Desk, numbers: Sequence[int], kind: str) -> None:
    await _enrol(desk, numbers, kind, status="paused", paused_until=NOW + timedelta(days=1))


async def _waiting(desk: Desk, numbers: Sequence[int], kind: str) -> None:
    await _enrol(desk, numbers, kind, status="waitlisted", pt_id=None, coach_id=None)


async def _left_alone(desk: Desk, numbers: Sequence[int], kind: str) -> None:
    """Their PT leaves; another one of the state takes them."""
    pt, _ = await _enrol(desk, numbers, kind)
    async with transaction(desk.database) as (connection, _counted):
        await save_practitioners(connection, [_panel(uuid4(), "pt")], now=NOW)
        await close_panels(connection, practitioner_ids=[pt], now=NOW)


def _given(make: Callable[[Desk, Sequence[int], str], Awaitable[None]], kind: str) -> Any:
    async def given(desk: Desk, numbers: Sequence[int]) -> None:
        await make(desk, numbers, kind)

    return given


SITUATIONS = {
    "contact.announcement": _in_care,
    "coverage.end": _in_care,
    "pause.end": _paused,
    "waitlist.retry": _waiting,
    "care-team.reassignment": _left_alone,
}
ENROLLING = {("enrollment", kind): _given(make, kind) for kind, make in SITUATIONS.items()}
