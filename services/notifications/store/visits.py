"""Visits as far as reminders need them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.database import Connection

VisitStatus = Literal["booked", "cancelled", "completed", "missed"]

SAVE = """
insert into visits (visit_id, member_id, starts_at, status)
select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[])
on conflict (visit_id) do update set starts_at = excluded.starts_at, status = excluded.status
"""

LOAD = "select visit_id, member_id, starts_at, status from visits where visit_id = any($1::uuid[])"


@dataclass(frozen=True, kw_only=True)
class Visit:
    visit_id: UUID
    member_id: UUID
    starts_at: datetime
    status: VisitStatus


async def load_visits(connection: Connection, *, visit_ids: Sequence[UUID]) -> dict[UUID, Visit]:
    return {row["visit_id"]: Visit(**dict(row)) for row in await connection.fetch(LOAD, visit_ids)}


async def save_visits(connection: Connection, visits: Mapping[UUID, Visit]) -> None:
    if visits:
        rows = list(visits.values())
        await connection.execute(
            SAVE,
            [visit.visit_id for visit in rows],
            [visit.member_id for visit in rows],
            [visit.starts_at for visit in rows],
            [visit.status for visit in rows],
        )
