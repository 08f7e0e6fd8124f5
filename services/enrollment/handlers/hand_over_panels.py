"""A practitioner leaves or goes on leave: every member of their panel moves to somebody else, in batches by timers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.enrollment.domain.care_team import CareTeam
from services.enrollment.domain.enrolment import REASSIGNMENT_TIMER, announce_care_team, care_need, member_timer
from services.enrollment.domain.membership import Membership
from services.enrollment.store.care_teams import assign_care_teams
from services.enrollment.store.memberships import find_panels, load_memberships, save_memberships
from services.enrollment.store.practitioners import close_panels, lock_panels, note_operation
from shared.database import Connection
from shared.outcomes import Cause, Outcomes, Timer
from shared.timers import save_timers

RETRY_PERIOD: Final = timedelta(hours=6)
"""How soon a move for which nobody was found is tried again. The present team keeps the member until then."""


async def close_panel(connection: Connection, *, practitioner_id: UUID, now: datetime) -> None:
    """Nobody new comes to this panel once this is committed."""
    await lock_panels(connection)
    await close_panels(connection, practitioner_ids=[practitioner_id], now=now)


async def hand_over_panel(
    connection: Connection, *, practitioner_id: UUID, reason: str, done_by: str, cause: Cause, now: datetime
) -> int:
    """Set every member of a closed panel to be moved; how many. Their timers move them, under their own locks."""
    members = await find_panels(connection, practitioner_ids=[practitioner_id])
    await note_operation(
        connection,
        done_by=done_by,
        action="hand-over-panel",
        reason=reason,
        details={"practitioner_id": str(practitioner_id), "members": len(members)},
    )
    await save_timers(
        connection,
        [
            Timer(kind=REASSIGNMENT_TIMER, key=str(member_id), member_id=member_id, due_at=now, cause=cause)
            for member_id in members
        ],
    )
    return len(members)


async def reassign_members(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """A new team for members whose PT or coach takes members no more. Whoever of the two still does, stays."""
    timer_of = {timer.member_id: timer for timer in timers}
    memberships = await load_memberships(connection, member_ids=list(timer_of))
    in_care = {m.member_id: m for m in memberships.values() if m.in_care}
    teams = await assign_care_teams(
        connection,
        needs={member_id: care_need(in_care[member_id]) for member_id in timer_of if member_id in in_care},
        now=now,
    )
    outcomes = Outcomes()
    changed: list[Membership] = []
    again: list[Timer] = []
    for member_id, team in teams.items():
        membership, timer = in_care[member_id], timer_of[member_id]
        if not isinstance(team, CareTeam):
            changed.append(replace(membership, reassignment_problem=team.reason))
            again.append(
                member_timer(REASSIGNMENT_TIMER, member_id=member_id, due_at=now + RETRY_PERIOD, because=timer)
            )
            continue
        moved = replace(
            membership, pt_id=team.pt.practitioner_id, coach_id=team.coach.practitioner_id, reassignment_problem=None
        )
        if moved != membership:
            changed.append(moved)
        if (moved.pt_id, moved.coach_id) != (membership.pt_id, membership.coach_id):
            announce_care_team(outcomes, team=team, intake_id=membership.intake_id, because=timer)
    await save_memberships(connection, changed)
    await save_timers(connection, again)
    return outcomes
