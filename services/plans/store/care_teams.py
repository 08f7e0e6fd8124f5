"""Who cares for a member."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from shared.database import Connection

LOAD = "select member_id, pt_id, coach_id from care_teams where member_id = any($1::uuid[])"

SAVE = """
insert into care_teams (member_id, pt_id, coach_id)
select member_id, pt_id, coach_id from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as t(member_id, pt_id, coach_id)
on conflict (member_id) do update set pt_id = excluded.pt_id, coach_id = excluded.coach_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    member_id: UUID
    pt_id: UUID
    coach_id: UUID


async def load_care_teams(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, Team]:
    """The care teams of these members; who has none is missing."""
    return {row["member_id"]: Team(**row) for row in await connection.fetch(LOAD, list(member_ids))}


async def save_care_teams(connection: Connection, *, teams: Iterable[Team]) -> None:
    """Save care teams, each member at most once."""
    chosen = list(teams)
    if chosen:
        await connection.execute(
            SAVE, [t.member_id for t in chosen], [t.pt_id for t in chosen], [t.coach_id for t in chosen]
        )
