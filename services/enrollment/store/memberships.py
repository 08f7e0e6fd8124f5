"""Where each person stands, their contact and consents, and what they answered at intake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.enrollment.domain.membership import Membership
from shared.database import Connection
from shared.events.members import ConsentChangedData, ContactChangedData

LOAD = """
select member_id, sponsor_id, person_id, status, status_reason, status_since, state, language, time_zone, intake_id,
       pt_id, coach_id, reassignment_problem, paused_until
from memberships where member_id = any($1::uuid[])
"""
FIND_MEMBERS = """
select m.sponsor_id, m.person_id, m.member_id
from memberships m join unnest($1::uuid[], $2::text[]) as w(sponsor_id, person_id)
    on m.sponsor_id = w.sponsor_id and m.person_id = w.person_id
"""
SAVE = """
insert into memberships (member_id, sponsor_id, person_id, status, status_reason, status_since, state, language,
    time_zone,
                         intake_id, pt_id, coach_id, reassignment_problem, paused_until)
select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
    $8::text[],
                     $9::text[], $10::uuid[], $11::uuid[], $12::uuid[], $13::text[], $14::timestamptz[])
on conflict (member_id) do update set status = excluded.status, status_reason = excluded.status_reason,
    status_since = excluded.status_since, state = excluded.state, language = excluded.language,
    time_zone = excluded.time_zone, intake_id = excluded.intake_id, pt_id = excluded.pt_id, coach_id =
    excluded.coach_id,
    reassignment_problem = excluded.reassignment_problem, paused_until = excluded.paused_until
"""
FIND_PANEL = """
select member_id from memberships where pt_id = any($1::uuid[])
union select member_id from memberships where coach_id = any($1::uuid[])
"""
FIND_WAITING = "select member_id from memberships where status = 'waitlisted' order by status_since limit $1"
LIST_UNPLACED = """
select member_id, status, coalesce(reassignment_problem, status_reason) as reason, status_since, state, language,
    time_zone
from memberships where status = 'waitlisted' or ($2 and reassignment_problem is not null)
order by status_since, member_id limit $1
"""
COUNT_UNPLACED = """
select count(*) filter (where status = 'waitlisted') as waiting,
       count(*) filter (where reassignment_problem is not null) as not_moved
from memberships where status = 'waitlisted' or reassignment_problem is not null
"""
LOAD_CONTACTS = """
select member_id, given_name, family_name, email, phone, time_zone, language from contacts
where member_id = any($1::uuid[])
"""
SAVE_CONTACTS = """
insert into contacts (member_id, given_name, family_name, email, phone, time_zone, language)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
on conflict (member_id) do update set given_name = excluded.given_name, family_name = excluded.family_name,
    email = excluded.email, phone = excluded.phone, time_zone = excluded.time_zone, language = excluded.language
"""
LOAD_CONSENTS = "select member_id, channel, topic, granted from consents where member_id = any($1::uuid[])"
# Oldest first; of one moment what is said of all topics before what is said of one.
LOAD_SAID = """
select c.member_id, c.channel, c.topic, c.granted, c.given_by
from consents c join unnest($1::uuid[], $2::timestamptz[]) as i(member_id, taken_at) using (member_id)
where c.given_by <> 'intake' and c.given_at >= i.taken_at order by c.given_at, c.topic <> 'all', c.channel, c.topic
"""
SAVE_CONSENTS = """
insert into consents (member_id, channel, topic, granted, given_by, given_at)
select w.member_id, w.channel, w.topic, w.granted, w.given_by, $6
from unnest($1::uuid[], $2::text[], $3::text[], $4::bool[], $5::text[]) as w(member_id, channel, topic, granted,
    given_by)
on conflict (member_id, channel, topic) do update
    set granted = excluded.granted, given_by = excluded.given_by, given_at = excluded.given_at
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    member_id: UUID
    channel: str
    topic: str
    granted: bool
    given_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unplaced:
    """Somebody without a care team that can have them, and why. No name: who may see that asks by id."""

    member_id: UUID
    status: str
    reason: str
    since: datetime
    state: str
    language: str
    time_zone: str


async def load_memberships(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[UUID, Membership]:
    return {row["member_id"]: _membership(row) for row in await connection.fetch(LOAD, member_ids)}


async def find_members(connection: Connection, *, persons: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], UUID]:
    """Member ids of (sponsor, person) pairs that have one."""
    rows = await connection.fetch(FIND_MEMBERS, [sponsor for sponsor, _ in persons], [person for _, person in persons])
    return {(row["sponsor_id"], row["person_id"]): row["member_id"] for row in rows}


async def save_memberships(connection: Connection, memberships: Sequence[Membership]) -> None:
    columns = [
        (
            m.member_id,
            m.sponsor_id,
            m.person_id,
            m.status,
            m.status_reason,
            m.status_since,
            m.state,
            m.language,
            m.time_zone,
            m.intake_id,
            m.pt_id,
            m.coach_id,
            m.reassignment_problem,
            m.paused_until,
        )
        for m in memberships
    ]
    if columns:
        await connection.execute(SAVE, *(list(column) for column in zip(*columns, strict=True)))


async def find_panels(connection: Connection, *, practitioner_ids: Sequence[UUID]) -> list[UUID]:
    """Members whose care team names one of these practitioners."""
    return [row["member_id"] for row in await connection.fetch(FIND_PANEL, practitioner_ids)]


async def find_waiting(connection: Connection, *, limit: int) -> list[UUID]:
    """Waitlisted members, longest first."""
    return [row["member_id"] for row in await connection.fetch(FIND_WAITING, limit)]


async def list_unplaced(connection: Connection, *, with_team: bool, limit: int) -> list[Unplaced]:
    """Longest waiting first: who has no care team, and `with_team` also who could not be moved to another."""
    rows = await connection.fetch(LIST_UNPLACED, limit, with_team)
    return [
        Unplaced(
            member_id=row["member_id"],
            status=row["status"],
            reason=row["reason"],
            since=row["status_since"],
            state=row["state"],
            language=row["language"],
            time_zone=row["time_zone"],
        )
        for row in rows
    ]


async def count_unplaced(connection: Connection) -> tuple[int, int]:
    """How many are on the waiting list, and how many could not be moved to another team."""
    row = await connection.fetchrow(COUNT_UNPLACED)
    assert row is not None
    return row["waiting"], row["not_moved"]


async def load_contacts(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[UUID, ContactChangedData]:
    rows = await connection.fetch(LOAD_CONTACTS, member_ids)
    return {row["member_id"]: ContactChangedData(**{k: v for k, v in row.items() if k != "member_id"}) for row in rows}


async def save_contacts(connection: Connection, contacts: Mapping[UUID, ContactChangedData]) -> None:
    rows = [
        (member_id, c.given_name, c.family_name, c.email, c.phone, c.time_zone, c.language)
        for member_id, c in contacts.items()
    ]
    if rows:
        await connection.execute(SAVE_CONTACTS, *(list(column) for column in zip(*rows, strict=True)))


async def load_consents(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[tuple[UUID, str, str], bool]:
    """Granted or not, by (member, channel, topic). What is not there was never asked: not granted."""
    rows = await connection.fetch(LOAD_CONSENTS, member_ids)
    return {(row["member_id"], row["channel"], row["topic"]): row["granted"] for row in rows}


async def load_said_consents(
    connection: Connection, *, since: Mapping[UUID, datetime]
) -> dict[UUID, list[ConsentChangedData]]:
    """By member: what people have said of consents since this moment, oldest first; the intake itself is left out."""
    said: dict[UUID, list[ConsentChangedData]] = {}
    for row in await connection.fetch(LOAD_SAID, list(since), list(since.values())):
        fields = dict(row)
        said.setdefault(fields.pop("member_id"), []).append(ConsentChangedData(**fields))
    return said


async def save_consents(connection: Connection, consents: Sequence[Consent], *, now: datetime) -> None:
    rows = [(c.member_id, c.channel, c.topic, c.granted, c.given_by) for c in consents]
    if rows:
        await connection.execute(SAVE_CONSENTS, *(list(column) for column in zip(*rows, strict=True)), now)


def _membership(row: asyncpg.Record) -> Membership:
    return Membership(
        member_id=row["member_id"],
        sponsor_id=row["sponsor_id"],
        person_id=row["person_id"],
        status=row["status"],
        status_reason=row["status_reason"],
        status_since=row["status_since"],
        state=row["state"],
        language=row["language"],
        time_zone=row["time_zone"],
        intake_id=row["intake_id"],
        pt_id=row["pt_id"],
        coach_id=row["coach_id"],
        reassignment_problem=row["reassignment_problem"],
        paused_until=row["paused_until"],
    )
