"""Members leave: they ask to, they are done, or their coverage has ended."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from services.enrollment.domain.coverage import coverage_end, ends_at
from services.enrollment.domain.enrolment import COVERAGE_TIMER, MEMBER_TIMERS, member_timer
from services.enrollment.domain.membership import Membership, disenrol
from services.enrollment.store.care_teams import release_care_teams
from services.enrollment.store.coverages import load_coverages
from services.enrollment.store.memberships import load_memberships, save_memberships
from services.enrollment.store.sponsors import load_sponsors
from shared.database import Connection
from shared.events import MemberDisenrolled
from shared.events.members import MemberDisenrolledData
from shared.outcomes import Command, Outcomes, Refusal, Timer
from shared.timers import cancel_member_timers, save_timers

LeavingReason = Literal["coverage-ended", "member-left", "completed", "operator"]


async def disenrol_member(
    connection: Connection, *, member_id: UUID, reason: LeavingReason, command: Command, now: datetime
) -> Outcomes | Refusal:
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return Refusal("not-found", "No such member.")
    left = disenrol(membership=membership, reason=reason, now=now)
    if isinstance(left, Refusal):
        return left
    outcomes = Outcomes()
    await _save_departures(connection, [membership], [left])
    if membership.in_care:
        outcomes.publish(
            MemberDisenrolled, MemberDisenrolledData(reason=reason, effective_on=now.date()), because=command
        )
    return outcomes


async def end_coverages(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """The last covered day of these members may be over: it is looked up again, because a later file may have moved
    it."""
    memberships = await load_memberships(connection, member_ids=[timer.member_id for timer in timers])
    last_days = await _load_last_days(connection, list(memberships.values()))
    outcomes = Outcomes()
    leaving: list[Membership] = []
    gone: list[Membership] = []
    later: list[Timer] = []
    for timer in timers:
        membership = memberships.get(timer.member_id)
        last_day = last_days.get(timer.member_id)
        if membership is None or last_day is None:
            continue
        if now < ends_at(last_day):
            later.append(
                member_timer(COVERAGE_TIMER, member_id=timer.member_id, due_at=ends_at(last_day), because=timer)
            )
            continue
        left = disenrol(membership=membership, reason="coverage-ended", now=now)
        if isinstance(left, Membership):
            leaving.append(membership)
            gone.append(left)
            if membership.in_care:
                ended = MemberDisenrolledData(reason="coverage-ended", effective_on=last_day)
                outcomes.publish(MemberDisenrolled, ended, because=timer)
    await _save_departures(connection, leaving, gone)
    await save_timers(connection, later)
    return outcomes


async def _load_last_days(connection: Connection, memberships: Sequence[Membership]) -> Mapping[UUID, date | None]:
    """By member: the last day covered; None: open."""
    sponsors = await load_sponsors(connection, sponsor_ids=list({m.sponsor_id for m in memberships}))
    coverages = await load_coverages(connection, persons=[(m.sponsor_id, m.person_id) for m in memberships])
    return {
        m.member_id: coverage_end(sponsor=sponsors[m.sponsor_id], coverage=coverages[m.sponsor_id, m.person_id])
        for m in memberships
    }


async def _save_departures(connection: Connection, leaving: Sequence[Membership], gone: Sequence[Membership]) -> None:
    await cancel_member_timers(connection, kinds=MEMBER_TIMERS, member_ids=[m.member_id for m in gone])
    await release_care_teams(connection, leaving)
    await save_memberships(connection, gone)
