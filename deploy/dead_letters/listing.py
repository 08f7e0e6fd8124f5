"""Held events as an operator looks for them: never their payload, which is health data."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.database import Connection
from shared.held_events import LONG_QUEUE

WHERE = """
where ($1::text is null or h.consumer_group = $1) and ($2::text is null or h.topic = $2)
    and ($3::text is null or h.reason = $3) and ($4::text is null or h.state = $4)
    and ($5::uuid is null or h.member_id = $5) and ($6::timestamptz is null or h.held_at >= $6)
"""
BEHIND = """
case when h.blocks then (
    select count(*) from delivery.held_events b
    where b.blocks and b.member_id = h.member_id and b.consumer_group = h.consumer_group and b.topic = h.topic
        and b.held_id > h.held_id
) else 0 end
"""
LIST = f"""
select h.held_id as id, h.consumer_group as "group", h.topic, h.partition, h.record_offset as "offset", h.state,
    h.reason, h.detail, h.held_at, {BEHIND} as behind, h.replays
from delivery.held_events h {WHERE} and h.held_id > $7 order by h.held_id limit $8
"""  # noqa: S608  # put together from constants
# What a replay left in the middle has no dead letter at its head any more.
IDS = f"""
select h.held_id from delivery.held_events h {WHERE}
    and ($4::text is not null or h.state = 'dead' or h.reason = '{LONG_QUEUE}')
    and h.held_id > $7 and h.held_id <= $9 order by h.held_id limit $8
"""  # noqa: S608  # put together from constants
COUNT = f"""
select count(*) from delivery.held_events h {WHERE}
    and ($4::text is not null or h.state = 'dead' or h.reason = '{LONG_QUEUE}')
"""  # noqa: S608  # put together from constants
NEWEST = "select coalesce(max(held_id), 0) from delivery.held_events"
SIZE = "coalesce(octet_length(h.value), 0) + octet_length(h.headers::text)"
SUMMARY = f"""
select h.consumer_group as "group", h.state, h.reason, count(*) as events, min(h.held_at) as oldest,
    sum({SIZE})::bigint as bytes
from delivery.held_events h {WHERE} group by 1, 2, 3 order by 1, 2, 3
"""  # noqa: S608  # put together from constants
PARKED = f"""
select h.consumer_group as "group", h.topic, h.member_id as member, count(*) as events, min(h.held_at) as oldest,
    sum({SIZE})::bigint as bytes,
    (select min(b.held_id) from delivery.held_events b where b.blocks and b.member_id = h.member_id
        and b.consumer_group = h.consumer_group and b.topic = h.topic) as head
from delivery.held_events h {WHERE} group by 1, 2, 3 order by events desc, 1, 2, 3 limit $7
"""  # noqa: S608  # put together from constants
SHOW = f"""
select h.held_id as id, h.consumer_group as "group", h.topic, h.partition, h.record_offset as "offset", h.state,
    h.reason, h.detail, h.blocks, h.member_id as member, h.source, h.event_id, encode(h.identity, 'hex') as identity,
    h.record_at, h.held_at, h.expires_at, h.replays, {BEHIND} as behind, octet_length(h.value) as bytes
from delivery.held_events h where h.held_id = $1
"""  # noqa: S608  # put together from constants


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which held events; a filter that is None lets all through."""

    group: str | None = None
    topic: str | None = None
    reason: str | None = None
    state: str | None = None
    member: UUID | None = None
    since: datetime | None = None

    @property
    def values(self) -> tuple[Any, ...]:
        return (self.group, self.topic, self.reason, self.state, self.member, self.since)

    @property
    def any_given(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))


def read_since(text: str, now: datetime) -> datetime:
    """`90m`, `12h` or `3d` ago, or a time in ISO 8601 with its zone. ValueError for anything else."""
    units = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    if text[-1:] in units and text[:-1].isdecimal() and len(text) < 8:
        return now - int(text[:-1]) * units[text[-1]]
    since = datetime.fromisoformat(text)
    if since.tzinfo is None:
        raise ValueError("a time needs its zone, such as 2026-11-02T08:00+00:00")
    return since


async def list_held(connection: Connection, filters: Filters, *, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of held events in the order in which they were held, those with an id above `after`."""
    return [dict(row) for row in await connection.fetch(LIST, *filters.values, after, limit)]


async def find_ids(connection: Connection, filters: Filters, *, after: int, until: int, limit: int) -> Sequence[int]:
    """Ids of dead letters (of other states where the filter says so) above `after` and up to `until`."""
    rows = await connection.fetch(IDS, *filters.values, after, limit, until)
    return [row["held_id"] for row in rows]


async def count_ids(connection: Connection, filters: Filters) -> int:
    count: int = await connection.fetchval(COUNT, *filters.values)
    return count


async def newest_id(connection: Connection) -> int:
    """The last event held so far: what is held later is not part of what an operator began now."""
    newest: int = await connection.fetchval(NEWEST)
    return newest


async def summarise(connection: Connection, filters: Filters) -> list[dict[str, Any]]:
    """Counts, oldest and bytes by group, state and reason."""
    return [dict(row) for row in await connection.fetch(SUMMARY, *filters.values)]


async def list_queues(connection: Connection, filters: Filters, *, limit: int) -> list[dict[str, Any]]:
    """Members with parked events, the longest queue first, and the event at its head."""
    return [dict(row) for row in await connection.fetch(PARKED, *filters.values, limit)]


async def describe(connection: Connection, held_id: int) -> dict[str, Any] | None:
    """Everything about a held event but its payload."""
    row = await connection.fetchrow(SHOW, held_id)
    return None if row is None else dict(row)
