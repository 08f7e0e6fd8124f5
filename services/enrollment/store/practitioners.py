"""Physical therapists and coaches, and how full their panels are.

Who chooses a care team takes one lock first, after the members' locks: a panel's last place is given once. Enrolments
are a few a minute even in January (11,000 a day), so one lock costs nothing and needs no retry.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.enrollment.domain.care_team import PanelMember
from shared.database import Connection

PANELS_LOCK = 7_310_579_202
LOAD = """
select practitioner_id, role, name, licensed_states, languages, time_zone, panel_limit, panel_size, accepting
from practitioners where $1::uuid[] is null or practitioner_id = any($1::uuid[]) order by practitioner_id
"""
SAVE = """
insert into practitioners (
    practitioner_id, role, name, licensed_states, languages, time_zone, panel_limit, accepting, changed_at)
select p.practitioner_id, p.role, p.name, string_to_array(p.licensed_states, ' '), string_to_array(p.languages, ' '),
       p.time_zone, p.panel_limit, p.accepting, $9
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bool[])
    as p(practitioner_id, role, name, licensed_states, languages, time_zone, panel_limit, accepting)
on conflict (practitioner_id) do update set name = excluded.name, licensed_states = excluded.licensed_states,
    languages = excluded.languages, time_zone = excluded.time_zone, panel_limit = excluded.panel_limit,
    accepting = excluded.accepting, changed_at = excluded.changed_at
returning old.practitioner_id is null as added
"""
CLOSE = "update practitioners set accepting = false, changed_at = $2 where practitioner_id = any($1::uuid[])"
MOVE_LOAD = """
update practitioners p set panel_size = p.panel_size + d.difference
from (select practitioner_id, sum(difference)::int as difference
      from unnest($1::uuid[], $2::int[]) as u(practitioner_id, difference) group by practitioner_id) d
where p.practitioner_id = d.practitioner_id and d.difference <> 0
"""
NOTE = "insert into delivery.operations (done_by, action, reason, details) values ($1, $2, $3, $4)"


async def lock_panels(connection: Connection) -> None:
    """Until the transaction ends, nobody else gives or takes a place on a panel. Call it before panels are read."""
    await connection.execute("select pg_advisory_xact_lock($1)", PANELS_LOCK)


async def load_practitioners(
    connection: Connection, *, practitioner_ids: Sequence[UUID] | None = None
) -> dict[UUID, PanelMember]:
    """These practitioners, or all."""
    rows = await connection.fetch(LOAD, practitioner_ids)
    return {row["practitioner_id"]: _panel_member(row) for row in rows}


async def save_practitioners(connection: Connection, practitioners: Sequence[PanelMember], *, now: datetime) -> int:
    """Insert or replace all but role and panel size; how many are new."""
    rows = await connection.fetch(
        SAVE,
        [p.practitioner_id for p in practitioners],
        [p.role for p in practitioners],
        [p.name for p in practitioners],
        [" ".join(sorted(p.licensed_states)) for p in practitioners],
        [" ".join(sorted(p.languages)) for p in practitioners],
        [p.time_zone for p in practitioners],
        [p.panel_limit for p in practitioners],
        [p.accepting for p in practitioners],
        now,
    )
    return sum(row["added"] for row in rows)


async def close_panels(connection: Connection, *, practitioner_ids: Sequence[UUID], now: datetime) -> None:
    """These practitioners take no new members from now on."""
    await connection.execute(CLOSE, practitioner_ids, now)


async def move_panel_load(connection: Connection, *, taken: Sequence[UUID], released: Sequence[UUID]) -> None:
    """One place more on each panel in `taken`, one less on each in `released`; both may repeat an id."""
    if taken or released:
        await connection.execute(MOVE_LOAD, [*taken, *released], [1] * len(taken) + [-1] * len(released))


async def note_operation(
    connection: Connection, *, done_by: str, action: str, reason: str, details: dict[str, Any]
) -> None:
    """Keep who did this by hand, and why."""
    await connection.execute(NOTE, done_by, action, reason, details)


def _panel_member(row: asyncpg.Record) -> PanelMember:
    return PanelMember(
        practitioner_id=row["practitioner_id"],
        role=row["role"],
        name=row["name"],
        licensed_states=frozenset(row["licensed_states"]),
        languages=frozenset(row["languages"]),
        time_zone=row["time_zone"],
        panel_limit=row["panel_limit"],
        panel_size=row["panel_size"],
        accepting=row["accepting"],
    )
