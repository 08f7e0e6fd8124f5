"""Members as the care team sees them, and who may see whom."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from services.messaging.domain.people import CareTeam, MemberProfile
from services.messaging.domain.slots import WeeklyHours
from services.messaging.store.json_rows import inserting, json_row
from shared.database import Connection
from shared.events.vocabulary import Practitioner

COLUMNS = """member_id, status, state, time_zone, language, cause, signs, goals, usual_pain, days_per_week, enrolled_at,
    paused_until, consents, pt_id, coach_id, team_reason"""
"""Of a profile; a view adds the names of the people."""
SELECT = f"""select {COLUMNS}, given_name, family_name, pt_role, pt_name, coach_role, coach_name
    from care_profiles"""  # noqa: S608 - only our own parts
LOAD = f"{SELECT} where member_id = any($1::uuid[])"

VISIBLE = """
select p.member_id from member_profiles p where p.member_id = any($1::uuid[]) and $2 in (p.pt_id, p.coach_id)
union
select a.member_id from alerts a
where $3 and a.member_id = any($1::uuid[]) and a.status <> 'resolved' and a.owner_role = 'oncall'
"""

SEARCH = f"""
{SELECT} p
where ($1 in (p.pt_id, p.coach_id) or ($2 and exists (
        select from alerts a where a.member_id = p.member_id and a.status <> 'resolved' and a.owner_role = 'oncall')))
    and ($3 = '' or strpos(lower(p.given_name || ' ' || p.family_name), lower($3)) > 0)
order by p.family_name, p.given_name, p.member_id limit $4
"""

SAVE_PROFILES = f"""
{inserting("member_profiles", COLUMNS)}
on conflict (member_id) do update set (status, state, time_zone, language, cause, signs, goals, usual_pain,
    days_per_week, enrolled_at, paused_until, consents, pt_id, coach_id, team_reason) = (excluded.status,
    excluded.state, excluded.time_zone, excluded.language, excluded.cause, excluded.signs, excluded.goals,
    excluded.usual_pain,
    excluded.days_per_week, excluded.enrolled_at, excluded.paused_until, excluded.consents, excluded.pt_id,
    excluded.coach_id, excluded.team_reason)
"""

CARE_TEAMS = """
select p.member_id as team_of, pt.practitioner_id as pt_id, pt.role as pt_role, pt.name as pt_name,
    coach.practitioner_id as coach_id, coach.role as coach_role, coach.name as coach_name,
    array(select distinct a.practitioner_id from practitioner_absences a
        where a.practitioner_id in (p.pt_id, p.coach_id) and a.during @> {now}) as absent
from member_profiles p
left join practitioners pt on pt.practitioner_id = p.pt_id
left join practitioners coach on coach.practitioner_id = p.coach_id
where p.member_id = any({members}) and coalesce(p.pt_id, p.coach_id) is not null
"""

SAVE_PRACTITIONERS = """
insert into practitioners (practitioner_id, role, name, time_zone)
select distinct on (practitioner_id) practitioner_id, role, name, coalesce(time_zone, 'America/New_York')
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality
    as n(practitioner_id, role, name, time_zone, place)
order by practitioner_id, place desc
on conflict (practitioner_id) do update set role = excluded.role, name = excluded.name
    where (practitioners.role, practitioners.name) is distinct from (excluded.role, excluded.name)
"""


def _profile(row: asyncpg.Record) -> MemberProfile:
    fields = dict(row)
    for role in ("pt", "coach"):
        person_id, name = fields.pop(f"{role}_id"), fields.pop(f"{role}_name")
        person_role = fields.pop(f"{role}_role")
        fields[role] = Practitioner(practitioner_id=person_id, role=person_role, name=name) if person_id else None
    fields["signs"], fields["goals"] = tuple(fields["signs"]), tuple(fields["goals"])
    return MemberProfile(**fields)


async def load_member_profiles(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, MemberProfile]:
    """Profiles by member; a member nothing was heard of is missing."""
    rows = await connection.fetch(LOAD, list(member_ids))
    return {row["member_id"]: _profile(row) for row in rows}


async def save_member_profiles(connection: Connection, profiles: Collection[MemberProfile]) -> None:
    """Insert or replace profiles (not names, which save_member_contacts writes). Practitioners must be saved first."""
    if not profiles:
        return
    rows = [
        {
            "member_id": p.member_id,
            "status": p.status,
            "state": p.state,
            "time_zone": p.time_zone,
            "language": p.language,
            "cause": p.cause,
            "signs": list(p.signs),
            "goals": list(p.goals),
            "usual_pain": p.usual_pain,
            "days_per_week": p.days_per_week,
            "enrolled_at": p.enrolled_at,
            "paused_until": p.paused_until,
            "consents": dict(p.consents),
            "pt_id": p.pt.practitioner_id if p.pt else None,
            "coach_id": p.coach.practitioner_id if p.coach else None,
            "team_reason": p.team_reason,
        }
        for p in profiles
    ]
    await connection.execute(SAVE_PROFILES, [json_row(row) for row in rows])


async def save_member_contacts(
    connection: Connection,
    *,
    member_ids: Sequence[UUID],
    given_names: Sequence[str],
    family_names: Sequence[str],
    time_zones: Sequence[str],
    languages: Sequence[str],
) -> None:
    """Insert or replace names; the last one of a member wins."""
    await connection.execute(
        """insert into member_contacts (member_id, given_name, family_name, time_zone, language)
        select distinct on (member_id) member_id, given_name, family_name, time_zone, language
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) with ordinality
            as n(member_id, given_name, family_name, time_zone, language, place)
        order by member_id, place desc
        on conflict (member_id) do update set (given_name, family_name, time_zone, language) =
            (excluded.given_name, excluded.family_name, excluded.time_zone, excluded.language)""",
        list(member_ids),
        list(given_names),
        list(family_names),
        list(time_zones),
        list(languages),
    )


async def find_visible_members(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, member_ids: Collection[UUID]
) -> set[UUID]:
    """Those of these members whom the practitioner may see: their own care team's, and for who is on call those with an
    unresolved alert that asks the on-call role. Everyone else does not exist for them (404)."""
    rows = await connection.fetch(VISIBLE, list(member_ids), practitioner_id, oncall)
    return {row["member_id"] for row in rows}


async def search_members(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, text: str = "", limit: int = 50
) -> list[MemberProfile]:
    """Members the practitioner may see whose name contains the text (all when empty), by family name."""
    rows = await connection.fetch(SEARCH, practitioner_id, oncall, text.strip(), limit)
    return [_profile(row) for row in rows]


async def load_care_teams(
    connection: Connection, *, member_ids: Collection[UUID], now: datetime
) -> dict[UUID, CareTeam]:
    """The care team of each member that has one, with who of it is absent now."""
    statement = CARE_TEAMS.format(members="$1::uuid[]", now="$2::timestamptz")
    return care_teams_of(await connection.fetch(statement, list(member_ids), now))


def care_teams_of(rows: Iterable[asyncpg.Record]) -> dict[UUID, CareTeam]:
    """Rows of CARE_TEAMS, or that hold some, by member."""
    teams: dict[UUID, CareTeam] = {}
    for row in rows:
        if row["team_of"] is None or row["team_of"] in teams:
            continue
        people = {
            role: Practitioner(practitioner_id=row[f"{role}_id"], role=row[f"{role}_role"], name=row[f"{role}_name"])
            for role in ("pt", "coach")
            if row[f"{role}_id"]
        }
        teams[row["team_of"]] = CareTeam(**people, absent=frozenset(row["absent"]))
    return teams


async def save_practitioners(
    connection: Connection,
    people: Sequence[Practitioner],
    *,
    time_zones: Sequence[str | None],
    default_hours: Sequence[WeeklyHours],
) -> None:
    """Insert practitioners with the default week, in the given zone; known ones only get name and role updated."""
    if not people:
        return
    ids = [p.practitioner_id for p in people]
    await connection.execute(
        SAVE_PRACTITIONERS, ids, [p.role for p in people], [p.name for p in people], list(time_zones)
    )
    await connection.execute(
        """insert into practitioner_hours (practitioner_id, weekday, starts_at, ends_at)
        select p.practitioner_id, h.weekday, h.starts_at, h.ends_at
        from practitioners p cross join unnest($2::int[], $3::time[], $4::time[]) as h(weekday, starts_at, ends_at)
        where p.practitioner_id = any($1::uuid[]) and p.hours_assumed on conflict do nothing""",
        ids,
        [h.weekday for h in default_hours],
        [h.starts_at for h in default_hours],
        [h.ends_at for h in default_hours],
    )
