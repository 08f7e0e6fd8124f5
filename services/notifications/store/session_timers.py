"""Session reminders: the schedule of each member and the one timer that it keeps set."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from services.notifications.domain.policy import Policy
from services.notifications.domain.quiet_hours import local_date
from services.notifications.domain.session_reminders import SessionReminder, SessionSchedule, next_session_reminder
from services.notifications.domain.zones import candidate_zones, read_zone
from shared.database import Connection
from shared.outcomes import Cause, Timer
from shared.timers import cancel_timers, save_timers

KIND = "reminder.session"

# `since` moves with a new plan, and when a revision asks for other days or another time; not with one of an exercise.
SAVE_SCHEDULES = """
insert into session_schedules (member_id, weekdays, local_time, time_zone, since, cause)
select member_id, string_to_array(weekdays, ',')::smallint[], local_time, time_zone, since, cause::jsonb
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
    as s(member_id, weekdays, local_time, time_zone, since, cause)
on conflict (member_id) do update set
    since = case
        when excluded.member_id <> all($7::uuid[])
            and (session_schedules.weekdays, session_schedules.local_time) = (excluded.weekdays, excluded.local_time)
        then session_schedules.since else excluded.since
    end,
    weekdays = excluded.weekdays, local_time = excluded.local_time, time_zone = excluded.time_zone,
    cause = excluded.cause
"""

FORGET_SCHEDULES = """
delete from session_schedules s using unnest($1::uuid[], $2::timestamptz[]) as ended(member_id, at)
where s.member_id = ended.member_id and s.since <= ended.at
"""

SAVE_LATEST_SESSIONS = """
insert into latest_sessions (member_id, started_at)
select * from unnest($1::uuid[], $2::timestamptz[])
on conflict (member_id) do update set started_at = greatest(latest_sessions.started_at, excluded.started_at)
"""

LOAD_LATEST_SESSIONS = "select member_id, started_at from latest_sessions where member_id = any($1::uuid[])"

SAVE_REMINDED = """
update session_schedules s set reminded_on = greatest(s.reminded_on, r.reminded_on)
from unnest($1::uuid[], $2::date[]) as r(member_id, reminded_on) where s.member_id = r.member_id
"""

LOAD = """
select s.member_id, s.weekdays, s.local_time, s.time_zone as planned_time_zone, s.since, s.reminded_on, s.cause,
    c.time_zone, e.time_zone as enrolled_time_zone, e.state, e.status, e.paused_until, l.started_at
from session_schedules s
left join contacts c using (member_id)
left join enrollments e using (member_id)
left join latest_sessions l using (member_id)
where s.member_id = any($1::uuid[])
"""

LOAD_ZONES = """
select m.member_id, coalesce(c.time_zone, s.time_zone, e.time_zone) as time_zone, e.state
from unnest($1::uuid[]) as m(member_id)
left join contacts c using (member_id)
left join session_schedules s using (member_id)
left join enrollments e using (member_id)
"""


@dataclass(frozen=True, kw_only=True)
class ScheduleRow:
    weekdays: tuple[int, ...]
    local_time: str
    """HH:MM."""
    time_zone: str
    since: datetime
    cause: Cause


async def save_schedules(
    connection: Connection, schedules: Mapping[UUID, ScheduleRow], *, anew: Collection[UUID]
) -> None:
    """`anew`: the members who have another plan, and not only a revision of the one they had."""
    if schedules:
        rows = list(schedules.values())
        await connection.execute(
            SAVE_SCHEDULES,
            list(schedules),
            [",".join(map(str, sorted(row.weekdays))) for row in rows],
            [row.local_time for row in rows],
            [row.time_zone for row in rows],
            [row.since for row in rows],
            [orjson.dumps(row.cause._asdict()).decode() for row in rows],
            list(anew),
        )


async def forget_schedules(connection: Connection, ended_at: Mapping[UUID, datetime]) -> None:
    """The plans of these members ended then: who comes back has none until the next is issued. One that came into force
    later stays, whichever is read first."""
    if ended_at:
        await connection.execute(FORGET_SCHEDULES, list(ended_at), list(ended_at.values()))


async def save_latest_sessions(connection: Connection, started_at: Mapping[UUID, datetime]) -> None:
    """The latest start of a session of each member; an earlier one that comes late changes nothing."""
    if started_at:
        await connection.execute(SAVE_LATEST_SESSIONS, list(started_at), list(started_at.values()))


async def load_latest_sessions(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the latest session of these members began; who has done none is missing."""
    rows = await connection.fetch(LOAD_LATEST_SESSIONS, member_ids)
    return {row["member_id"]: row["started_at"] for row in rows}


async def save_reminded(connection: Connection, reminded_on: Mapping[UUID, date]) -> None:
    """The local day whose reminder was made; no other is made for it."""
    if reminded_on:
        await connection.execute(SAVE_REMINDED, list(reminded_on), list(reminded_on.values()))


async def load_zones(connection: Connection, *, member_ids: Sequence[UUID], policy: Policy) -> dict[UUID, ZoneInfo]:
    """The zone that each member's days are counted in: their own, else the first that they may be in."""
    return {
        row["member_id"]: candidate_zones(time_zone=row["time_zone"], state=row["state"], policy=policy)[0]
        for row in await connection.fetch(LOAD_ZONES, member_ids)
    }


async def move_session_timers(
    connection: Connection, *, member_ids: Sequence[UUID], policy: Policy, now: datetime
) -> None:
    """Set each member's session timer to the next reminder by all that is known now, or cancel it. Called by whatever
    changes the plan, the zone, the membership or the sessions done, in the same transaction."""
    timers: list[Timer] = []
    for row in await connection.fetch(LOAD, member_ids):
        zone = (
            read_zone(row["time_zone"])
            or read_zone(row["planned_time_zone"])
            or candidate_zones(time_zone=row["enrolled_time_zone"], state=row["state"], policy=policy)[0]
        )
        is_resting = row["status"] == "disenrolled" or (row["status"] == "paused" and row["paused_until"] is None)
        reminder = None if is_resting else _next(dict(row), zone, policy, now)
        if reminder:
            timers.append(
                Timer(
                    kind=KIND,
                    key=str(row["member_id"]),
                    member_id=row["member_id"],
                    due_at=reminder.due_at,
                    cause=Cause(**row["cause"]),
                    payload={"planned_on": str(reminder.planned_on), "stale_at": reminder.stale_at.isoformat()},
                )
            )
    await save_timers(connection, timers)
    moot = set(member_ids) - {timer.member_id for timer in timers}
    await cancel_timers(connection, kind=KIND, keys=sorted(map(str, moot)))


def _next(row: Mapping[str, Any], zone: ZoneInfo, policy: Policy, now: datetime) -> SessionReminder | None:
    started_at: datetime | None = row["started_at"]
    return next_session_reminder(
        schedule=SessionSchedule(
            weekdays=tuple(row["weekdays"]),
            local_time=time.fromisoformat(str(row["local_time"])),
            since=row["since"],
        ),
        zone=zone,
        member_id=row["member_id"],
        reminded_on=row["reminded_on"],
        done_on=local_date(at=started_at, zone=zone) if started_at else None,
        not_before=row["paused_until"] if row["status"] == "paused" else None,
        now=now,
        policy=policy,
    )
