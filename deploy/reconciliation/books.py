"""What a service's database says it has taken, holds, publishes and still has to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.database import Connection

# What an operator read once more, or passed over, is not in the counts of the log: they are compared from there on.
LOAD_POSITIONS = """
select p.*, coalesce((moved.details->>'to')::bigint, first_offset) as counted_from,
    coalesce((moved.details->>'read')::bigint, 0) as counted_before
from delivery.positions p left join lateral (
    select o.details from delivery.operations o
    where o.action = 'positions set' and o.details->>'group' = p.consumer_group and o.details->>'topic' = p.topic
        and (o.details->>'partition')::int = p.partition
    order by o.operation_id desc limit 1
) moved on true
order by consumer_group, topic, partition
"""
FIND_TAKEN = "select identity from delivery.inbox where identity = any($1::bytea[])"
# One statement, so that both are of one moment: an event is held and released together with its outcome.
COUNT_DISAGREEING = """
select
    (
        select count(*) from delivery.held_events h left join delivery.inbox i using (identity)
        where i.outcome is distinct from h.state
    ) as held,
    (
        select count(*) from delivery.inbox i where i.outcome in ('dead', 'parked', 'waiting')
            and not exists (select from delivery.held_events h where h.identity = i.identity)
    ) as told
"""
OUTBOX_HEAD = "select min(outbox_id) as oldest, count(*) as rows from delivery.outbox"
OVERDUE = """
select kind, count(*) as overdue, min(due_at) as oldest from delivery.timers
where due_at < $1 group by kind order by kind
"""
CLASSES = ("new", "duplicate", "refused", "dead", "parked", "waiting")


@dataclass(frozen=True, kw_only=True, slots=True)
class Book:
    """One row of positions: how far a group has come in a partition, and what became of what it read."""

    consumer_group: str
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    read: int
    counted_from: int
    """Where it began, or where an operator put it last."""
    counted_before: int
    """How many it had read by then."""
    classes: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreeing:
    """Where held events and the inbox tell different stories."""

    held: int
    """Held events that the inbox does not know, or of which it says something else."""
    told: int
    """Events that the inbox calls dead, parked or waiting, and that are not held."""


@dataclass(frozen=True, slots=True)
class OutboxHead:
    oldest: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Overdue:
    kind: str
    count: int
    oldest: datetime


async def load_books(connection: Connection) -> list[Book]:
    return [
        Book(
            consumer_group=row["consumer_group"],
            topic=row["topic"],
            partition=row["partition"],
            first_offset=row["first_offset"],
            next_offset=row["next_offset"],
            read=row["records_read"],
            counted_from=row["counted_from"],
            counted_before=row["counted_before"],
            classes={name: row[f"records_{name}"] for name in CLASSES},
        )
        for row in await connection.fetch(LOAD_POSITIONS)
    ]


async def find_missing(connection: Connection, wanted: Sequence[tuple[bytes, ...]]) -> int:
    """How many records have none of their keys in the inbox."""
    keys = [key for keys in wanted for key in keys]
    found = {row["identity"] for row in await connection.fetch(FIND_TAKEN, keys)}
    return sum(1 for keys in wanted if not found.intersection(keys))


async def count_disagreeing(connection: Connection) -> Disagreeing:
    row = await connection.fetchrow(COUNT_DISAGREEING)
    assert row is not None
    return Disagreeing(held=row["held"], told=row["told"])


async def load_outbox_head(connection: Connection) -> OutboxHead:
    row = await connection.fetchrow(OUTBOX_HEAD)
    assert row is not None
    return OutboxHead(row["oldest"], row["rows"])


async def load_overdue(connection: Connection, *, due_before: datetime) -> list[Overdue]:
    rows = await connection.fetch(OVERDUE, due_before)
    return [Overdue(row["kind"], row["overdue"], row["oldest"]) for row in rows]
