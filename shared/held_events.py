"""Events that could not be applied when they came: dead letters, what is parked behind one, and what waits.

A queue is all blocking rows of one (consumer group, topic, member), in the order in which they were held. Whoever reads
or changes a queue holds that member's lock, so an event is never added to a queue that was just emptied.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal, NamedTuple
from uuid import UUID

from shared.database import Connection, Database

HeldState = Literal["dead", "parked", "waiting"]

COLUMNS = (
    "partition", "record_offset", "record_key", "member_id", "blocks", "state", "reason", "detail", "identity",
    "source", "event_id", "value", "headers", "record_at", "expires_at",
)  # fmt: skip
"""Those that are held as they come: fields of a HeldEvent."""
_OWN = ", ".join(COLUMNS)

HOLD = f"""
insert into delivery.held_events (consumer_group, topic, {_OWN})
select $1, $2, {_OWN}
from unnest($3::int[], $4::bigint[], $5::bytea[], $6::uuid[], $7::bool[], $8::text[], $9::text[], $10::text[],
    $11::bytea[], $12::text[], $13::text[], $14::bytea[], $15::json[], $16::timestamptz[], $17::timestamptz[])
    with ordinality as h({_OWN}, place)
where not exists (select from delivery.inbox i where i.identity = h.identity and i.outcome = 'discarded')
order by place
on conflict (consumer_group, topic, partition, record_offset, record_at) do nothing
returning identity
"""  # noqa: S608 - only our own parts

# Of each queue as much as $5 bytes let take, the first event whatever it has, and the one behind that.
LOAD_QUEUES = f"""
select q.* from unnest($1::uuid[]) as wanted(member_id) cross join lateral (
    select held_id, consumer_group, topic, {_OWN}, replays, size
    from (
        select *, sum(size) over (order by held_id rows between unbounded preceding and 2 preceding) as before_last
        from (
            select *, coalesce(octet_length(value), 0) + octet_length(headers::text) as size
            from delivery.held_events h
            where blocks and h.member_id = wanted.member_id and consumer_group = $2 and topic = $3
            order by held_id limit $4
        ) as page
    ) as sized where before_last is null or before_last < $5 order by held_id
) as q order by q.member_id, q.held_id
"""  # noqa: S608 - only our own parts

LOAD_ONE = f"""
select held_id, consumer_group, topic, {_OWN}, replays from delivery.held_events where held_id = $1
"""  # noqa: S608 - only our own parts

LOAD_AWAITED = """
select member_id, consumer_group, topic, held_id, state from (
    select distinct on (member_id, consumer_group, topic) member_id, consumer_group, topic, held_id, state, reason
    from delivery.held_events where blocks and member_id = any($1::uuid[])
    order by member_id, consumer_group, topic, held_id
) as heads where state = 'waiting' or reason = 'waited-too-long' order by member_id, consumer_group, topic
"""

FIND_EXPIRED = """
select member_id, consumer_group, expires_at, held_id from delivery.held_events
where state = 'waiting' and expires_at <= $1 and consumer_group = any($3::text[])
    and (expires_at, held_id) > ($4::timestamptz, $5::bigint)
order by expires_at, held_id limit $2
"""

FROM_THE_FIRST = (datetime.min.replace(tzinfo=UTC), 0)
"""Before whatever waits."""
WAITED_TOO_LONG = "waited-too-long"
"""Reason of a dead letter that is tried again, by itself, whenever its member has something new."""
LONG_QUEUE = "long-queue"
"""Reason of the head of a queue that was too long for one transaction: the rest is taken in the next."""

# The inbox says of a held event what its row says. What was discarded stays so (shared/inbox.py).
TELL = """
update delivery.inbox i set outcome = changed.state, detail = changed.reason from changed
where i.identity = changed.identity and i.outcome <> 'discarded'
"""

# Both rows of each pair stand in one queue, and the index of queues finds the later one wherever it is in it.
EXCHANGE = f"""
with changed as (
    update delivery.held_events h set identity = mine.identity
    from unnest($1::bigint[], $2::uuid[], $3::bytea[], $4::bytea[]) as first(held_id, member_id, place, identity)
    join delivery.held_events behind on behind.blocks and behind.member_id = first.member_id
        and behind.consumer_group = $5 and behind.topic = $6 and behind.held_id > first.held_id
        and behind.identity = first.identity
    cross join lateral (values (first.held_id, first.identity), (behind.held_id, first.place))
        as mine(held_id, identity)
    where h.held_id = mine.held_id returning h.held_id, h.identity, h.state, h.reason
), told as ({TELL})
select held_id, identity from changed
"""  # noqa: S608 - only our own parts

RELEASE = "delete from delivery.held_events where held_id = any($1::bigint[])"

MARK = f"""
with changed as (
    update delivery.held_events h set state = m.state, reason = m.reason, detail = m.detail, expires_at = m.expires_at,
        replays = replays + m.tried::int, blocks = coalesce(m.blocks, h.blocks),
        member_id = coalesce(m.member_id, h.member_id), source = coalesce(m.source, h.source),
        event_id = coalesce(m.event_id, h.event_id)
    from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bool[], $7::bool[], $8::uuid[],
        $9::text[], $10::text[])
        as m(held_id, state, reason, detail, expires_at, tried, blocks, member_id, source, event_id)
    where h.held_id = m.held_id returning h.identity, h.state, h.reason
)
{TELL}
"""  # noqa: S608 - only our own parts


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldEvent:
    """A record exactly as it lay in the log, and why it was held."""

    partition: int
    record_offset: int
    record_key: bytes | None
    member_id: UUID | None
    blocks: bool
    state: HeldState
    reason: str
    detail: str | None
    identity: bytes
    source: str | None
    event_id: str | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    record_at: datetime
    expires_at: datetime | None = None
    held_id: int = 0
    consumer_group: str = ""
    topic: str = ""
    replays: int = 0
    size: int = 0
    """Bytes of value and headers, where it was read with its queue."""


def _pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> str:
    return json.dumps([[name, None if value is None else base64.b64encode(value).decode()] for name, value in headers])


def _unpack_headers(packed: str) -> list[tuple[str, bytes | None]]:
    return [(str(name), None if value is None else base64.b64decode(value)) for name, value in json.loads(packed)]


async def hold_events(connection: Connection, *, group: str, topic: str, held: Sequence[HeldEvent]) -> list[bytes]:
    """Append events to their queues, in the order given. One statement. A record is held once by its coordinates, and
    never again once it was discarded; the identities of those that were held already, under this one or another, and of
    those that were discarded."""
    if not held:
        return []
    rows = await connection.fetch(HOLD, group, topic, *zip(*map(_columns_of, held), strict=True))
    new = {row["identity"] for row in rows}
    return [event.identity for event in held if event.identity not in new]


def _columns_of(event: HeldEvent) -> list[Any]:
    return [_pack_headers(event.headers) if name == "headers" else getattr(event, name) for name in COLUMNS]


def _held(row: Any) -> HeldEvent:
    fields = dict(row)
    fields["headers"] = _unpack_headers(fields["headers"])
    return HeldEvent(**fields)


async def load_queues(
    connection: Connection, *, member_ids: Sequence[UUID], group: str, topic: str, limit: int, size: int = 1
) -> dict[UUID, list[HeldEvent]]:
    """The heads of these members' queues, `limit` events of each, oldest first: as many as come before `size` bytes are
    full, and the one behind those. The caller holds their locks."""
    queues: dict[UUID, list[HeldEvent]] = {member_id: [] for member_id in member_ids}
    for row in await connection.fetch(LOAD_QUEUES, list(queues), group, topic, limit, size):
        queues[row["member_id"]].append(_held(row))
    return queues


def many_within(size: int, rows: Sequence[HeldEvent]) -> int:
    """How many of these, read with their queue, come before so many bytes are full; one at least."""
    return 1 + sum(end < size for end in accumulate(row.size for row in rows))


async def load_held(connection: Connection, held_id: int, *, lock: bool = False) -> HeldEvent | None:
    """One held event, or None where it is gone. `lock` keeps it until the transaction ends; whoever locks a queue's
    event holds the member's lock first."""
    row = await connection.fetchrow(f"{LOAD_ONE} for update" if lock else LOAD_ONE, held_id)
    return None if row is None else _held(row)


async def find_head(connection: Connection, *, member_id: UUID, group: str, topic: str) -> HeldEvent | None:
    """The first event of a queue, or None where there is no queue. The caller holds the member's lock."""
    queues = await load_queues(connection, member_ids=[member_id], group=group, topic=topic, limit=1)
    return next(iter(queues[member_id]), None)


class Awaited(NamedTuple):
    """The head of a queue that waits for something, or waited too long for it."""

    queue: tuple[UUID, str, str]
    """Member, consumer group, topic."""
    held_id: int
    state: HeldState


async def load_awaited(connection: Connection, member_ids: Sequence[UUID]) -> list[Awaited]:
    """The heads of these members' queues that wait for something, or waited too long for it."""
    rows = await connection.fetch(LOAD_AWAITED, member_ids)
    return [Awaited((member_id, group, topic), *rest) for member_id, group, topic, *rest in rows]


class Expired(NamedTuple):
    """An event that has waited too long."""

    member_id: UUID
    group: str
    expires_at: datetime
    held_id: int


async def find_expired(
    connection: "Connection | Database",
    *,
    groups: Sequence[str],
    now: datetime,
    limit: int,
    after: tuple[datetime, int],
) -> list[Expired]:
    """What has waited too long in these groups, the longest first: a page of those `after` a time and an id."""
    rows = await connection.fetch(FIND_EXPIRED, now, limit, groups, *after)
    return [Expired(*row) for row in rows]


async def exchange_identities(
    connection: Connection, firsts: Sequence[tuple[HeldEvent, bytes]], *, group: str, topic: str
) -> dict[int, bytes]:
    """Where a row behind one of these in its queue has the identity given with it, the two exchange theirs; what each
    has now, by its id. One statement. The caller holds the members' locks."""
    if not firsts:
        return {}
    rows = await connection.fetch(
        EXCHANGE,
        [row.held_id for row, _ in firsts],
        [row.member_id for row, _ in firsts],
        [row.identity for row, _ in firsts],
        [identity for _, identity in firsts],
        group,
        topic,
    )
    return {row["held_id"]: row["identity"] for row in rows}


async def release_held(connection: Connection, held_ids: Sequence[int]) -> None:
    """Delete rows whose effect is in this same transaction."""
    if held_ids:
        await connection.execute(RELEASE, held_ids)


class Mark(NamedTuple):
    """Why a row is held from now on, in the order of the statement."""

    held_id: int
    state: HeldState
    reason: str
    detail: str | None = None
    expires_at: datetime | None = None
    tried: bool = True
    """Whether this counts as a replay."""
    blocks: bool | None = None
    member_id: UUID | None = None
    """Both put a row in or take it out of its member's queue."""
    source: str | None = None
    event_id: str | None = None
    """Both where it can be read by now: which event it is."""


async def mark_held(connection: Connection, marks: Sequence[Mark]) -> None:
    """Change why rows are held, and what the inbox says of them. One statement."""
    if marks:
        await connection.execute(MARK, *zip(*marks, strict=True))
