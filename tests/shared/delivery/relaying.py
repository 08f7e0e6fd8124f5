"""A relay that runs while a test looks at what it does, and what a test gives it to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from shared.database import Connection, Database
from shared.events.codec import encode
from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of, partition_of
from shared.relay import Relay
from shared.settings import ServiceSettings
from shared.writing import write
from tests.shared.delivery.probe import ACTIVITY, pain


@contextlib.asynccontextmanager
async def relaying(settings: ServiceSettings, pool: Database) -> AsyncIterator[Relay]:
    relay = Relay(settings, pool, pool)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put(pool: "Database | Connection", events: Sequence[tuple[UUID, bytes]], *, topic: str = ACTIVITY) -> None:
    await write(
        pool, [inserting_rows([OutboxRow(topic, member, value, key_of(member).hash) for member, value in events])]
    )


def events_of(members: Sequence[UUID], rounds: int) -> list[tuple[UUID, bytes]]:
    return [(m, encode(pain(m, number % 11, event_id=f"{number}"))) for number in range(rounds) for m in members]


def member_in(partition: int) -> UUID:
    """A member whose events go to this partition of three."""
    return next(member for member in iter(uuid4, None) if partition_of(member, 3) == partition)


def ids_of(read: Sequence[dict[str, Any]], member: UUID) -> list[str]:
    return [event["id"] for event in read if event["subject"] == str(member)]


def numbers(count: int) -> list[str]:
    return [f"{number}" for number in range(count)]


async def empty(pool: Database) -> bool:
    left = await pool.fetchval("select count(*) from delivery.outbox")
    assert left == 0, left
    return True
