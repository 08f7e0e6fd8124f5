"""What a service's database says it has taken, holds, publishes and still has to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.database import Connection

LOAD_POSITIONS = "select * from delivery.positions order by consumer_group, topic, partition"
FIND_TAKEN = "select identity from delivery.inbox where identity = any($1::bytea[])"
COUNT_MISMATCHED = """
select count(*) from delivery.held_events h left join delivery.inbox i using (identity)
where i.identity is null or i.outcome <> h.state and h.reason <> 'identity-conflict'
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
    classes: dict[str, int]


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
            classes={name: row[f"records_{name}"] for name in CLASSES},
        )
        for row in await connection.fetch(LOAD_POSITIONS)
    ]


async def find_missing(connection: Connection, wanted: Sequence[tuple[bytes, ...]]) -> int:
    """How many records have none of their keys in the inbox."""
    keys = [key for keys in wanted for key in keys]
    found = {row["identity"] for row in await connection.fetch(FIND_TAKEN, keys)}
    return sum(1 for keys in wanted if not found.intersection(keys))


async def count_mismatched(connection: Connection) -> int:
    """Held events whose inbox row is missing or says something else."""
    count: int = await connection.fetchval(COUNT_MISMATCHED)
    return count


async def load_outbox_head(connection: Connection) -> OutboxHead:
    row = await connection.fetchrow(OUTBOX_HEAD)
    assert row is not None
    return OutboxHead(row["oldest"], row["rows"])


async def load_overdue(connection: Connection, *, due_before: datetime) -> list[Overdue]:
    rows = await connection.fetch(OVERDUE, due_before)
    return [Overdue(row["kind"], row["overdue"], row["oldest"]) for row in rows]
