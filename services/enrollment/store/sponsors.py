"""Sponsors and their benefit."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from services.enrollment.domain.coverage import Sponsor
from shared.database import Connection

LOAD = """
select sponsor_id, name, states, covers_from, covers_until, administrators from sponsors
where sponsor_id = any($1::uuid[])
"""
KEEP = "select from sponsors where sponsor_id = any($1::uuid[]) order by sponsor_id for key share"
LOCK = "select from sponsors where sponsor_id = any($1::uuid[]) order by sponsor_id for update"
LIST = """
select sponsor_id, name, states, covers_from, covers_until, administrators from sponsors
where sponsor_id > $1 and ($2::text is null or $2 = any(administrators)) order by sponsor_id limit $3
"""
SAVE = """
insert into sponsors (sponsor_id, name, states, covers_from, covers_until, administrators, changed_at)
select s.sponsor_id, s.name, string_to_array(s.states, ' '), s.covers_from, s.covers_until,
       coalesce(array(select jsonb_array_elements_text(s.administrators::jsonb)), '{}'), $7
from unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::date[], $6::text[])
    as s(sponsor_id, name, states, covers_from, covers_until, administrators)
on conflict (sponsor_id) do update set name = excluded.name, states = excluded.states, covers_from =
    excluded.covers_from,
    covers_until = excluded.covers_until, administrators = excluded.administrators, changed_at = excluded.changed_at
returning old.sponsor_id is null as added
"""


async def load_sponsors(connection: Connection, *, sponsor_ids: Sequence[UUID]) -> dict[UUID, Sponsor]:
    rows = await connection.fetch(LOAD, sponsor_ids)
    return {row["sponsor_id"]: _sponsor(row) for row in rows}


async def keep_sponsors(connection: Connection, *, sponsor_ids: Sequence[UUID]) -> None:
    """These sponsors' terms stay as they are until the transaction ends; files of theirs may be applied meanwhile."""
    await connection.execute(KEEP, sponsor_ids)


async def lock_sponsors(connection: Connection, *, sponsor_ids: Sequence[UUID]) -> None:
    """Before their terms change: waits for enrolments and files under way."""
    await connection.execute(LOCK, sponsor_ids)


async def list_sponsors(connection: Connection, *, after: UUID, administrator: str | None, limit: int) -> list[Sponsor]:
    """A page in order of id, of all or of those that this subject administers."""
    return [_sponsor(row) for row in await connection.fetch(LIST, after, administrator, limit)]


async def save_sponsors(connection: Connection, sponsors: Sequence[Sponsor], *, now: datetime) -> int:
    """Insert or replace; how many are new."""
    rows = await connection.fetch(
        SAVE,
        [s.sponsor_id for s in sponsors],
        [s.name for s in sponsors],
        [" ".join(s.states) for s in sponsors],
        [s.covers_from for s in sponsors],
        [s.covers_until for s in sponsors],
        [orjson.dumps(s.administrators).decode() for s in sponsors],
        now,
    )
    return sum(row["added"] for row in rows)


def _sponsor(row: asyncpg.Record) -> Sponsor:
    return Sponsor(
        sponsor_id=row["sponsor_id"],
        name=row["name"],
        states=tuple(row["states"]),
        covers_from=row["covers_from"],
        covers_until=row["covers_until"],
        administrators=tuple(row["administrators"]),
    )
