"""Visits, holds and practitioners' time. That nobody is in two visits at once is the database's promise."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from services.messaging.domain.calendar import Calendar
from services.messaging.domain.slots import Span, WeeklyHours
from services.messaging.domain.visit import Visit
from shared.database import Connection
from shared.events.visits import VisitRecommendation
from shared.events.vocabulary import Practitioner
from shared.outcomes import Cause

HOLD = "visit.hold"
"""Timer kind; key: the member's id (they have one hold); payload: visit_id; due when the held time is free again."""
MISSED = "visit.missed"
"""Timer kind; key: the visit's id; due when nobody completed the visit in time."""

SAME: Final = (
    "visit_id",
    "member_id",
    "time_zone",
    "reason",
    "status",
    "hold_expires_at",
    "booked_at",
    "note",
    "alert_id",
)
"""Columns that are fields of a Visit as they are."""
SELECT = f"""
select {", ".join(SAME)}, practitioner_id, practitioner_role, practitioner_name, during, recommendation,
    recommended_exercises, cause_source, cause_id, cause_chain, cause_traceparent
from visits
"""  # noqa: S608 - only our own parts
LOAD = f"{SELECT} where visit_id = any($1::uuid[])"
LOAD_OF_MEMBERS = f"{SELECT} where member_id = any($1::uuid[]) order by lower(during) desc limit $2"
LOAD_AHEAD = f"""
{SELECT} where member_id = any($1::uuid[]) and status = 'booked' and lower(during) > $2
order by lower(during), visit_id
"""
LOAD_OF_PRACTITIONERS = f"""
{SELECT} where practitioner_id = any($1::uuid[]) and status <> 'cancelled' and during && $2 order by lower(during)
"""

# The exercises as one text: an array of arrays would come apart.
SAVE = """
update visits v set practitioner_id = n.practitioner_id, practitioner_role = n.practitioner_role,
    practitioner_name = n.practitioner_name, during = n.during, time_zone = n.time_zone, reason = n.reason,
    status = n.status, hold_expires_at = n.hold_expires_at, booked_at = n.booked_at, recommendation = n.recommendation,
    recommended_exercises = string_to_array(n.exercises, ','), note = n.note, alert_id = n.alert_id,
    cause_source = n.cause_source, cause_id = n.cause_id, cause_chain = n.cause_chain,
    cause_traceparent = n.cause_traceparent
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::tstzrange[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::text[],
    $17::text[], $18::text[], $19::text[]) as n(visit_id, member_id, practitioner_id, practitioner_role,
    practitioner_name, during, time_zone, reason, status, hold_expires_at, booked_at, recommendation, exercises, note,
    alert_id, cause_source, cause_id, cause_chain, cause_traceparent)
where v.visit_id = n.visit_id and v.member_id = n.member_id
"""


def _visit(row: asyncpg.Record) -> Visit:
    person = Practitioner(
        practitioner_id=row["practitioner_id"], role=row["practitioner_role"], name=row["practitioner_name"]
    )
    cause = (
        Cause(
            source=row["cause_source"],
            id=row["cause_id"],
            chain=row["cause_chain"],
            traceparent=row["cause_traceparent"],
        )
        if row["cause_id"]
        else None
    )
    recommendation = (
        VisitRecommendation(action=row["recommendation"], exercises=tuple(row["recommended_exercises"]))
        if row["recommendation"]
        else None
    )
    return Visit(
        **{name: row[name] for name in SAME},
        practitioner=person,
        starts_at=row["during"].lower,
        ends_at=row["during"].upper,
        recommendation=recommendation,
        cause=cause,
    )


def _values(visit: Visit) -> list[Any]:
    cause, advice = visit.cause, visit.recommendation
    return [
        visit.visit_id,
        visit.member_id,
        visit.practitioner.practitioner_id,
        visit.practitioner.role,
        visit.practitioner.name,
        asyncpg.Range(visit.starts_at, visit.ends_at),
        visit.time_zone,
        visit.reason,
        visit.status,
        visit.hold_expires_at,
        visit.booked_at,
        advice.action if advice else None,
        ",".join(advice.exercises) if advice else "",
        visit.note,
        visit.alert_id,
        cause.source if cause else None,
        cause.id if cause else None,
        cause.chain if cause else None,
        cause.traceparent if cause else None,
    ]


async def hold_visits(connection: Connection, visits: Sequence[Visit], *, now: datetime) -> set[UUID]:
    """Insert held visits; the ids of those that got their time. Holds that are over give way, also before their timer
    runs; for the rest the exclusion constraint decides, whoever else is inserting at this moment."""
    spans = [asyncpg.Range(visit.starts_at, visit.ends_at) for visit in visits]
    await connection.execute(
        """delete from visits v using unnest($1::uuid[], $2::tstzrange[]) as n(practitioner_id, during)
        where v.status = 'held' and v.hold_expires_at <= $3 and v.practitioner_id = n.practitioner_id
            and v.during && n.during""",
        [visit.practitioner.practitioner_id for visit in visits],
        spans,
        now,
    )
    await connection.execute(
        "delete from visits where status = 'held' and member_id = any($1::uuid[])",
        [visit.member_id for visit in visits],
    )
    rows = [_values(visit) for visit in visits]
    return {
        row["visit_id"]
        for row in await connection.fetch(
            """insert into visits (visit_id, member_id, practitioner_id, practitioner_role, practitioner_name, during,
                time_zone, reason, status, hold_expires_at, alert_id, cause_source, cause_id, cause_chain,
                cause_traceparent)
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::tstzrange[],
                $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::uuid[], $12::text[], $13::text[],
                $14::text[], $15::text[])
            on conflict do nothing returning visit_id""",
            *([row[column] for row in rows] for column in (*range(10), 14, 15, 16, 17, 18)),
        )
    }


class _Gone(Exception):
    """A hold that was over for somebody else, who took its time, while it was being booked."""


async def save_visits(connection: Connection, visits: Sequence[Visit]) -> bool:
    """Replace visits that exist. One statement. False, and nothing changed, when one's time is taken: its new one, or
    that of a hold, which is deleted then."""
    if not visits:
        return True
    try:
        async with connection.transaction():
            status = await connection.execute(SAVE, *zip(*map(_values, visits), strict=True))
            if status != f"UPDATE {len(visits)}":
                raise _Gone
    except (asyncpg.ExclusionViolationError, _Gone):
        return False
    return True


async def delete_holds(connection: Connection, *, visit_ids: Collection[UUID]) -> None:
    """Give held times back."""
    await connection.execute("delete from visits where status = 'held' and visit_id = any($1::uuid[])", list(visit_ids))


async def load_visits(connection: Connection, *, visit_ids: Collection[UUID]) -> dict[UUID, Visit]:
    """Visits (and holds) by id; unknown ones are missing. Whoever asks checks that the member may be seen."""
    rows = await connection.fetch(LOAD, list(visit_ids))
    return {row["visit_id"]: _visit(row) for row in rows}


async def load_member_visits(connection: Connection, *, member_ids: Collection[UUID], limit: int = 50) -> list[Visit]:
    """Visits of these members (holds too), latest first."""
    return [_visit(row) for row in await connection.fetch(LOAD_OF_MEMBERS, list(member_ids), limit)]


async def load_visits_ahead(connection: Connection, *, member_ids: Collection[UUID], now: datetime) -> list[Visit]:
    """Booked visits of these members that have not begun."""
    return [_visit(row) for row in await connection.fetch(LOAD_AHEAD, list(member_ids), now)]


async def load_practitioner_visits(
    connection: Connection, *, practitioner_ids: Collection[UUID], window: Span
) -> list[Visit]:
    """What takes these practitioners' time within the window: booked, done and missed visits and holds, in order."""
    span = asyncpg.Range(window.starts_at, window.ends_at)
    return [_visit(row) for row in await connection.fetch(LOAD_OF_PRACTITIONERS, list(practitioner_ids), span)]


async def load_calendars(
    connection: Connection, *, practitioner_ids: Collection[UUID], window: Span
) -> dict[UUID, Calendar]:
    """Weekly hours of practitioners, with their absences and visits within the window; unknown ones are missing."""
    rows = await connection.fetch(
        """select p.practitioner_id, p.role, p.name, p.time_zone, p.hours_assumed, h.weekday, h.starts_at, h.ends_at
        from practitioners p left join practitioner_hours h using (practitioner_id)
        where p.practitioner_id = any($1::uuid[]) order by h.weekday, h.starts_at""",
        list(practitioner_ids),
    )
    absences = await load_absences(connection, practitioner_ids=practitioner_ids, window=window)
    visits = await load_practitioner_visits(connection, practitioner_ids=practitioner_ids, window=window)
    hours: dict[UUID, list[WeeklyHours]] = {}
    for row in rows:
        week = hours.setdefault(row["practitioner_id"], [])
        if row["weekday"] is not None:
            week.append(WeeklyHours(weekday=row["weekday"], starts_at=row["starts_at"], ends_at=row["ends_at"]))
    return {
        row["practitioner_id"]: Calendar(
            practitioner=Practitioner(practitioner_id=row["practitioner_id"], role=row["role"], name=row["name"]),
            time_zone=row["time_zone"],
            hours=tuple(hours[row["practitioner_id"]]),
            hours_assumed=row["hours_assumed"],
            absences=tuple(absences.get(row["practitioner_id"], ())),
            visits=tuple(v for v in visits if v.practitioner.practitioner_id == row["practitioner_id"]),
        )
        for row in rows
    }


async def save_practitioner_hours(
    connection: Connection, *, practitioner_id: UUID, time_zone: str, hours: Sequence[WeeklyHours]
) -> bool:
    """Replace one practitioner's week. False when the practitioner is not known."""
    known = await connection.fetchval(
        "update practitioners set time_zone = $2, hours_assumed = false where practitioner_id = $1 returning true",
        practitioner_id,
        time_zone,
    )
    if not known:
        return False
    await connection.execute("delete from practitioner_hours where practitioner_id = $1", practitioner_id)
    await connection.execute(
        """insert into practitioner_hours (practitioner_id, weekday, starts_at, ends_at)
        select $1, * from unnest($2::int[], $3::time[], $4::time[])""",
        practitioner_id,
        [h.weekday for h in hours],
        [h.starts_at for h in hours],
        [h.ends_at for h in hours],
    )
    return True


async def save_absences(
    connection: Connection, *, absence_ids: Sequence[UUID], practitioner_ids: Sequence[UUID], spans: Sequence[Span]
) -> None:
    """Insert or move absences."""
    await connection.execute(
        """insert into practitioner_absences (absence_id, practitioner_id, during)
        select * from unnest($1::uuid[], $2::uuid[], $3::tstzrange[])
        on conflict (absence_id) do update set during = excluded.during
        where practitioner_absences.practitioner_id = excluded.practitioner_id""",
        list(absence_ids),
        list(practitioner_ids),
        [asyncpg.Range(s.starts_at, s.ends_at) for s in spans],
    )


async def load_absences(
    connection: Connection, *, practitioner_ids: Collection[UUID], window: Span
) -> dict[UUID, list[Span]]:
    """When these practitioners are absent within the window."""
    rows = await connection.fetch(
        """select practitioner_id, during from practitioner_absences
        where practitioner_id = any($1::uuid[]) and during && $2""",
        list(practitioner_ids),
        asyncpg.Range(window.starts_at, window.ends_at),
    )
    absences: dict[UUID, list[Span]] = {}
    for row in rows:
        span = Span(starts_at=row["during"].lower, ends_at=row["during"].upper)
        absences.setdefault(row["practitioner_id"], []).append(span)
    return absences
