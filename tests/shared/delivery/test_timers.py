"""Given timers that are due, when replicas claim them, then each runs once, in order, and none is lost to a failure."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.database import Connection, Database, open_database
from shared.member_locks import lock_members
from shared.migrating import migrate
from shared.outcomes import Cause, Outcomes, Timer
from shared.timers import (
    FAILURES_MAX,
    cancel_member_timers,
    cancel_timers,
    count_due,
    run_timers,
    save_timers,
)
from tests.fixtures.databases import DatabaseFactory

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAUSE = Cause(source="urn:test", id="cause", chain="chain")


@pytest.fixture
async def pool(database: DatabaseFactory) -> AsyncIterator[Database]:
    url = await database(None)
    await migrate(url, service="probe")
    opened = await open_database(url, connections=3, application="test")
    yield opened
    await opened.close()


def timer(member: UUID, key: str, *, due_in_s: float = -1, kind: str = "probe", **payload: Any) -> Timer:
    due_at = NOW + timedelta(seconds=due_in_s)
    return Timer(kind=kind, key=key, member_id=member, due_at=due_at, cause=CAUSE, payload=payload)


async def save(pool: Database, *timers: Timer) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await lock_members(connection, [one.member_id for one in timers])
        await save_timers(connection, timers)


class Journal:
    """A handler that notes what ran, and raises for keys it is told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.raise_for: set[str] = set()

    async def __call__(self, connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
        for one in timers:
            if one.key in self.raise_for:
                raise ValueError(one.key)
        self.ran += [one.key for one in timers]
        return Outcomes()


async def nothing_waits(*_: object) -> int:
    return 0


async def run(connection: Connection, journal: Journal, now: datetime = NOW) -> int:
    result = await run_timers(connection, {"probe": journal}, service="probe", now=now, settle_waiting=nothing_waits)
    return result.run


async def test_due_timers_run_once_oldest_first_and_later_ones_stay(pool: Database) -> None:
    one, two = uuid4(), uuid4()
    await save(pool, timer(one, "b", due_in_s=-5), timer(two, "a", due_in_s=-9), timer(one, "later", due_in_s=60))
    journal = Journal()
    async with pool.acquire() as connection:
        for _ in range(2):
            async with connection.transaction():
                await run(connection, journal)
        assert journal.ran == ["a", "b"]
        async with connection.transaction():
            assert await run(connection, journal, NOW + timedelta(minutes=2)) == 1
    assert journal.ran == ["a", "b", "later"]


async def test_saving_again_moves_and_cancelling_removes(pool: Database) -> None:
    member, journal = uuid4(), Journal()
    await save(pool, timer(member, "moved"), timer(member, "cancelled"), timer(member, "kept"))
    await save(pool, timer(member, "moved", due_in_s=600))
    async with pool.acquire() as connection, connection.transaction():
        await cancel_timers(connection, kind="probe", keys=["cancelled", "never there"])
        assert await count_due(connection, kinds=["probe"], now=NOW) == 1
        await run(connection, journal)
        await cancel_member_timers(connection, kinds=["probe"], member_ids=[member])
        assert await connection.fetchval("select count(*) from delivery.timers") == 0
    assert journal.ran == ["kept"]


async def test_a_member_held_by_somebody_else_is_skipped_not_waited_for(pool: Database) -> None:
    held, free, journal = uuid4(), uuid4(), Journal()
    await save(pool, timer(held, "held"), timer(free, "free"))
    async with pool.acquire() as other, other.transaction(), pool.acquire() as connection, connection.transaction():
        await lock_members(other, [held])
        await run(connection, journal)
    assert journal.ran == ["free"]
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["free", "held"]


async def test_a_timer_that_raises_holds_up_no_other_and_is_tried_again_later(pool: Database) -> None:
    members, journal = [uuid4() for _ in range(3)], Journal()
    journal.raise_for = {"bad"}
    await save(pool, *(timer(member, key) for member, key in zip(members, ("x", "bad", "y"), strict=True)))
    async with pool.acquire() as connection:
        async with connection.transaction():
            await run(connection, journal)
        assert sorted(journal.ran) == ["x", "y"]
        async with connection.transaction():
            assert await run(connection, journal) == 0, "not before its pause is over"
        for _ in range(FAILURES_MAX):
            await connection.execute("update delivery.timers set retry_at = null")
            async with connection.transaction():
                await run(connection, journal)
        row = await connection.fetchrow("select failures from delivery.timers where key = 'bad'")
        assert row
        assert row["failures"] == FAILURES_MAX, "it stays, for somebody to look at"
        assert await count_due(connection, kinds=["probe"], now=NOW) == 0


async def test_a_rolled_back_claim_leaves_the_timer(pool: Database) -> None:
    member, journal = uuid4(), Journal()
    await save(pool, timer(member, "again"))

    async def run_and_fail() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await run(connection, journal)
            await connection.execute("select 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await run_and_fail()
    async with pool.acquire() as connection, connection.transaction():
        await run(connection, journal)
    assert journal.ran == ["again", "again"]
