"""The notifications table: plan, claim, settle. Each change of state is one statement that names the state before."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.notifications.domain.announcements import ASKED_AT
from services.notifications.domain.delivery import FailedReason, PastSend, Settled
from services.notifications.domain.notification import Notification, State
from services.notifications.domain.policy import SuppressedReason
from shared.database import Connection
from shared.events.vocabulary import Channel, NotificationTopic
from shared.outcomes import Cause

COLUMNS = """notification_id, member_id, topic, template, about, params, page_role, not_before, stale_at, cause,
    attempts, failures, channel as attempted_channel, last_error"""

PLAN = """
insert into notifications
    (notification_id, member_id, topic, template, about, params, page_role, planned_at, not_before, stale_at, cause)
select notification_id, member_id, topic, template, about, params::jsonb, page_role, $11, not_before, stale_at,
    cause::jsonb
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
    $9::timestamptz[], $10::text[])
    as n(notification_id, member_id, topic, template, about, params, page_role, not_before, stale_at, cause)
order by notification_id
on conflict (notification_id) do nothing
"""

FIND_STANDING = """
select member_id, about from notifications
where state = 'planned' and member_id = any($1::uuid[]) and topic = $2
"""

STAND_LONGER = """
update notifications n set stale_at = greatest(n.stale_at, j.stale_at)
from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as j(member_id, about, stale_at)
where n.member_id = j.member_id and n.about = j.about and n.topic = $4 and n.state = 'planned'
"""

# One that is being sent right now keeps the reason: should the attempt fail, it is not tried again. What was asked
# after `until` stays; a row that does not say when it was asked was planned before rows did, and goes.
SUPPRESS_ABOUT = f"""
update notifications n set reason = $3,
    state = case when n.state = 'planned' then 'suppressed' else n.state end,
    settled_at = case when n.state = 'planned' then $4::timestamptz end
from unnest($1::uuid[], $2::text[], $5::timestamptz[]) as gone(member_id, about, until)
where n.member_id = gone.member_id and n.about = gone.about and n.state in ('planned', 'sending')
    and coalesce((n.params ->> '{ASKED_AT}')::timestamptz <= gone.until, true)
returning {COLUMNS.replace("member_id", "n.member_id").replace("about", "n.about")}, n.state
"""  # noqa: S608

SUPPRESS_TOPICS = f"""
update notifications set state = 'suppressed', reason = $3, settled_at = $4
where member_id = any($1::uuid[]) and topic = any($2::text[]) and page_role is null and state = 'planned'
returning {COLUMNS}
"""  # noqa: S608

# A page is found by itself: it must not stand behind whatever else is due. Its state is asked for so that only the
# index of pages fits: a plan of the time when the table was small would read all that is due.
ROWS = {True: "page_role is not null", False: "page_role is null"}
IS_PLANNED = {True: "state in ('planned', 'sending') and (state = 'planned') is true", False: "state = 'planned'"}
_FIND_DUE = """
select notification_id, member_id from notifications
where {rows} and {is_planned} and not_before <= $1
    and member_id <> all($3::uuid[]) and notification_id <> all($4::uuid[])
order by not_before limit $2
"""
FIND_DUE = {pages: _FIND_DUE.format(rows=rows, is_planned=IS_PLANNED[pages]) for pages, rows in ROWS.items()}

COUNT_UNSENT = """
select count(*) from notifications where (state = 'planned' and not_before <= $1) or state = 'sending'
"""

OLDEST_PAGE = """
select extract(epoch from $1 - min(planned_at))::float8 from notifications
where page_role is not null and state in ('planned', 'sending')
"""

# Another replica may have taken a row since it was found: it is then not planned any more, or still locked.
TAKE = f"""
select {COLUMNS} from notifications
where notification_id = any($1::uuid[]) and state = 'planned' and not_before <= $2
order by not_before, notification_id for update skip locked
"""  # noqa: S608

LOAD_PAST = """
select member_id, channel, topic, attempted_at from notifications
where member_id = any($1::uuid[]) and state in ('sending', 'sent', 'unknown') and page_role is null
    and attempted_at > $2
"""

START = """
update notifications n set state = 'sending', channel = s.channel, attempts = n.attempts + 1, attempted_at = $3,
    answer_by = clock_timestamp() + $4
from unnest($1::uuid[], $2::text[]) as s(notification_id, channel)
where n.notification_id = s.notification_id and n.state = 'planned'
"""

DEFER = """
update notifications n set not_before = d.not_before
from unnest($1::uuid[], $2::timestamptz[]) as d(notification_id, not_before)
where n.notification_id = d.notification_id and n.state = 'planned'
"""

END = """
update notifications n set state = e.state, reason = e.reason, settled_at = $4
from unnest($1::uuid[], $2::text[], $3::text[]) as e(notification_id, state, reason)
where n.notification_id = e.notification_id and n.state = 'planned'
"""

# An attempt given up as unknown may still be answered by the process that made it; only good news changes it then.
LOAD_ATTEMPTED = f"""
select {COLUMNS}, reason = 'moot' as is_moot, state = 'unknown' as is_given_up from notifications n
join unnest($1::uuid[], $2::int[]) as a(id, attempt) on a.id = n.notification_id and a.attempt = n.attempts
where n.state in ('sending', 'unknown') order by n.notification_id for update of n skip locked
"""  # noqa: S608

FIND_ATTEMPTED = """
select n.notification_id from notifications n
join unnest($1::uuid[], $2::int[]) as a(id, attempt) on a.id = n.notification_id and a.attempt = n.attempts
where n.state in ('sending', 'unknown')
"""

SETTLE = """
update notifications n set state = s.state, reason = s.reason, answer_by = null, last_error = s.last_error,
    not_before = coalesce(s.not_before, n.not_before), failures = n.failures + s.failed,
    settled_at = case when s.state = 'planned' then null else $7::timestamptz end
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[])
    as s(notification_id, state, reason, last_error, not_before, failed)
where n.notification_id = s.notification_id and n.state in ('sending', 'unknown')
"""

_FIND_UNANSWERED = """
select notification_id, member_id, attempts from notifications
where {rows} and state = 'sending' and answer_by < clock_timestamp() and notification_id <> all($2::uuid[])
order by answer_by limit $1
"""
FIND_UNANSWERED = {pages: _FIND_UNANSWERED.format(rows=rows) for pages, rows in ROWS.items()}

LIST = """
select notification_id, topic, template, about, state, reason, channel, planned_at, not_before, attempts, settled_at
from notifications where member_id = $1 and page_role is null order by planned_at desc, notification_id limit $2
"""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a notification ended without an attempt."""

    notification_id: UUID
    state: State
    reason: SuppressedReason | FailedReason


def _notification(row: asyncpg.Record) -> Notification:
    fields: dict[str, Any] = {
        name: value for name, value in row.items() if name not in ("state", "is_moot", "is_given_up")
    }
    return Notification(**{**fields, "cause": Cause(**fields["cause"])})


async def plan_notifications(connection: Connection, planned: Sequence[Notification], *, now: datetime) -> None:
    """Write what is to be sent. One that was planned before, whatever became of it, stays as it is."""
    if planned:
        await connection.execute(
            PLAN,
            [n.notification_id for n in planned],
            [n.member_id for n in planned],
            [n.topic for n in planned],
            [n.template for n in planned],
            [n.about for n in planned],
            [orjson.dumps(dict(n.params)).decode() for n in planned],
            [n.page_role for n in planned],
            [n.not_before for n in planned],
            [n.stale_at for n in planned],
            [orjson.dumps(n.cause._asdict()).decode() for n in planned],
            now,
        )


async def find_standing(
    connection: Connection, *, member_ids: Sequence[UUID], topic: NotificationTopic
) -> set[tuple[UUID, str]]:
    """(member, about) of what is planned of this topic and not sent yet."""
    rows = await connection.fetch(FIND_STANDING, member_ids, topic)
    return {(row["member_id"], row["about"]) for row in rows}


async def stand_longer(connection: Connection, joined: Sequence[Notification], *, topic: NotificationTopic) -> None:
    """What is planned about the same thing stands for these of this topic, too: until they are stale."""
    if joined:
        columns = [one.member_id for one in joined], [one.about for one in joined], [one.stale_at for one in joined]
        await connection.execute(STAND_LONGER, *columns, topic)


async def suppress_about(
    connection: Connection,
    gone: Sequence[tuple[UUID, str]],
    *,
    until: Sequence[datetime | None] = (),
    reason: SuppressedReason,
    now: datetime,
) -> list[Notification]:
    """End what is planned about these things of these members; what was ended. `until`, one for each thing or
    none at all: what was asked later stays."""
    if not gone:
        return []
    members, things = [one for one, _ in gone], [about for _, about in gone]
    rows = await connection.fetch(SUPPRESS_ABOUT, members, things, reason, now, until or [None] * len(gone))
    return [_notification(row) for row in rows if row["state"] == "suppressed"]


async def suppress_topics(
    connection: Connection,
    *,
    member_ids: Sequence[UUID],
    topics: Sequence[NotificationTopic],
    reason: SuppressedReason,
    now: datetime,
) -> list[Notification]:
    """End what is planned for these members themselves on these topics; what was ended."""
    if not member_ids:
        return []
    return [_notification(row) for row in await connection.fetch(SUPPRESS_TOPICS, member_ids, topics, reason, now)]


async def find_due(
    connection: Connection,
    *,
    pages: bool,
    now: datetime,
    limit: int,
    but_members: Collection[UUID] = (),
    but: Collection[UUID] = (),
) -> list[tuple[UUID, UUID]]:
    """(notification, member) of what may be sent now, oldest first: pages, or all else. Without some members, and
    without some notifications."""
    rows = await connection.fetch(FIND_DUE[pages], now, limit, list(but_members), list(but))
    return [(row["notification_id"], row["member_id"]) for row in rows]


async def count_unsent(connection: Connection, now: datetime) -> int:
    """What is due or under way."""
    count: int = await connection.fetchval(COUNT_UNSENT, now)
    return count


async def load_oldest_page(connection: Connection, *, now: datetime) -> float:
    """Seconds since the oldest page that is not sent was asked for, whenever it is tried next; 0 if there is none."""
    return max(0.0, await connection.fetchval(OLDEST_PAGE, now) or 0.0)


async def take_due(connection: Connection, *, notification_ids: Sequence[UUID], now: datetime) -> list[Notification]:
    """Lock those that are still to be sent and that nobody else has locked. The caller holds their members' locks, but
    of pages."""
    return [_notification(row) for row in await connection.fetch(TAKE, notification_ids, now)]


async def load_past_sends(
    connection: Connection, *, member_ids: Sequence[UUID], now: datetime
) -> dict[UUID, list[PastSend]]:
    """What these members were sent, or may have been, in the last seven days."""
    past: dict[UUID, list[PastSend]] = {member_id: [] for member_id in member_ids}
    for row in await connection.fetch(LOAD_PAST, member_ids, now - timedelta(days=7)):
        one = PastSend(channel=row["channel"], topic=row["topic"], at=row["attempted_at"])
        past[row["member_id"]].append(one)
    return past


async def start_attempts(
    connection: Connection, attempts: Sequence[tuple[UUID, Channel]], *, now: datetime, answer_within: timedelta
) -> None:
    """Record the attempts that will be made once this transaction has committed. `answer_within` is machine time: an
    attempt that is not settled by then is of unknown result."""
    if attempts:
        await connection.execute(
            START, [one for one, _ in attempts], [channel for _, channel in attempts], now, answer_within
        )


async def defer_notifications(connection: Connection, deferred: Sequence[tuple[UUID, datetime]]) -> None:
    if deferred:
        await connection.execute(DEFER, [one for one, _ in deferred], [until for _, until in deferred])


async def end_notifications(connection: Connection, endings: Sequence[Ending], *, now: datetime) -> None:
    if endings:
        await connection.execute(
            END,
            [ending.notification_id for ending in endings],
            [ending.state for ending in endings],
            [ending.reason for ending in endings],
            now,
        )


async def load_attempted(
    connection: Connection, attempts: Sequence[tuple[UUID, int]]
) -> list[tuple[Notification, bool, bool]]:
    """Of these (notification, number of its attempt), those whose attempt is still the latest and that nobody else has
    locked; whether it became moot meanwhile, and whether the attempt was given up as unknown."""
    rows = await connection.fetch(LOAD_ATTEMPTED, [one for one, _ in attempts], [number for _, number in attempts])
    return [(_notification(row), row["is_moot"] is True, row["is_given_up"]) for row in rows]


async def find_attempted(connection: Connection, attempts: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """As `load_attempted`, whoever has locked them, and only which."""
    rows = await connection.fetch(FIND_ATTEMPTED, [one for one, _ in attempts], [number for _, number in attempts])
    return {row["notification_id"] for row in rows}


async def settle_notifications(
    connection: Connection, settled: Sequence[tuple[UUID, Settled]], *, now: datetime
) -> None:
    if settled:
        await connection.execute(
            SETTLE,
            [one for one, _ in settled],
            [result.state for _, result in settled],
            ["moot" if result.state == "suppressed" else result.failure for _, result in settled],
            [result.last_error for _, result in settled],
            [result.not_before for _, result in settled],
            [int(result.is_failure) for _, result in settled],
            now,
        )


async def find_unanswered(
    connection: Connection, *, pages: bool, limit: int, but: Collection[UUID] = ()
) -> list[tuple[UUID, UUID, int]]:
    """(notification, member, number of the attempt) of attempts whose process did not record a result in time: of
    pages, or of all else; without some notifications."""
    rows = await connection.fetch(FIND_UNANSWERED[pages], limit, list(but))
    return [(row["notification_id"], row["member_id"], row["attempts"]) for row in rows]


async def list_notifications(connection: Connection, *, member_id: UUID, limit: int) -> list[dict[str, Any]]:
    """What this member was or will be told, newest first."""
    return [dict(row) for row in await connection.fetch(LIST, member_id, limit)]
