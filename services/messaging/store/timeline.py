"""A member's events from every service, and the chain of what caused what."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.messaging.domain.timeline import TimelineEntry
from services.messaging.store.columns import columns_of
from shared.database import Connection
from shared.outcomes import Write

SELECT = f"select {columns_of(TimelineEntry)} from timeline where member_id = any($1::uuid[])"  # noqa: S608
LOAD = f"""
{SELECT} and ($2::timestamptz is null or occurred_at < $2) order by occurred_at desc, source, event_id limit $3
"""
LOAD_CHAIN = f"""
select * from (
    {SELECT} and ($2::text is null or correlation_id = $2) and ($3::timestamptz is null or occurred_at >= $3)
        and ($4::timestamptz is null or occurred_at < $4)
        and (cardinality($5::text[]) = 0 or event_type = any($5))
    order by occurred_at desc, source, event_id limit $6
) as newest order by occurred_at, caused_by_id is not null, source, event_id
"""  # noqa: S608 - only our own parts


def saving_timeline(entries: Sequence[TimelineEntry]) -> Write | None:
    """Add events; one that is there already stays as it is."""
    if not entries:
        return None
    return Write(
        """insert into timeline (member_id, source, event_id, event_type, service, occurred_at, correlation_id,
            caused_by_source, caused_by_id, summary)
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
            $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[]) on conflict do nothing""",
        [
            [e.member_id for e in entries],
            [e.source for e in entries],
            [e.event_id for e in entries],
            [e.event_type for e in entries],
            [e.service for e in entries],
            [e.occurred_at for e in entries],
            [e.correlation_id for e in entries],
            [e.caused_by_source for e in entries],
            [e.caused_by_id for e in entries],
            [e.summary for e in entries],
        ],
    )


async def load_timeline(
    connection: Connection, *, member_ids: Collection[UUID], before: datetime | None = None, limit: int = 200
) -> list[TimelineEntry]:
    """Events of these members, newest first, from before a time when given."""
    rows = await connection.fetch(LOAD, list(member_ids), before, limit)
    return [TimelineEntry(**dict(row)) for row in rows]


async def load_chain(
    connection: Connection,
    *,
    member_ids: Collection[UUID],
    correlation_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    event_types: Collection[str] = (),
    limit: int = 2000,
) -> list[TimelineEntry]:
    """The causal chains of these members, in order of time: the newest `limit` events that belong to this chain (all
    chains when none is given), happened within the time, and are of these types (all when empty). An arrow leads to an
    entry from the one whose (source, event_id) is its (caused_by_source, caused_by_id); a cause that is a command or
    lies outside what was asked for is not among them."""
    rows = await connection.fetch(
        LOAD_CHAIN,
        list(member_ids),
        correlation_id,
        since,
        until,
        list(event_types),
        limit,
    )
    return [TimelineEntry(**dict(row)) for row in rows]
