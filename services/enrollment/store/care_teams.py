"""Gives members their care team under one lock, so that a panel's last place is given once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.enrollment.domain.care_team import CareNeed, CareTeam, NoCareTeam, place_members
from services.enrollment.domain.membership import Membership
from services.enrollment.store.intake_rules import load_intake_rules
from services.enrollment.store.practitioners import load_practitioners, lock_panels, move_panel_load
from shared.database import Connection


async def assign_care_teams(
    connection: Connection, *, needs: Mapping[UUID, CareNeed], now: datetime
) -> dict[UUID, CareTeam | NoCareTeam]:
    """A team for each member, or why there is none; panels are moved with it. The caller holds the members' locks and
    saves the memberships."""
    if not needs:
        return {}
    await lock_panels(connection)
    practitioners = await load_practitioners(connection)
    teams = place_members(needs=needs, practitioners=practitioners, rule=load_intake_rules().care_team, now=now)
    taken: list[UUID] = []
    released: list[UUID] = []
    for member_id, team in teams.items():
        if isinstance(team, CareTeam):
            need = needs[member_id]
            for chosen, present in ((team.pt, need.present_pt), (team.coach, need.present_coach)):
                if chosen.practitioner_id != present:
                    taken.append(chosen.practitioner_id)
                    released += [present] if present is not None else []
    await move_panel_load(connection, taken=taken, released=released)
    return teams


async def release_care_teams(connection: Connection, memberships: Sequence[Membership]) -> None:
    """Give back the places of these members, as they were before they left."""
    released = [each for m in memberships for each in (m.pt_id, m.coach_id) if each is not None]
    if released:
        await lock_panels(connection)
        await move_panel_load(connection, taken=[], released=released)
