"""Timers against whoever else decides about their members: what is locked when, and what is read after it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import timers as runtime
from shared.clock import wall_now
from shared.database import Connection
from shared.member_locks import claim_members, lock_members
from shared.outcomes import Cause, Outcomes, Timer
from shared.suspect_timers import Caution
from shared.timers import cancel_timers, run_timers, save_timers
from tests.fixtures.taken_timers import take_timers
from tests.shared.delivery.books import Books

CAUSE = Cause(source="urn:test", id="cause", chain="chain")
NOW = wall_now()


def timer(member: UUID, *, due_in_s: float = -1) -> Timer:
    return Timer(kind="probe", key=str(member), member_id=member, due_at=NOW + timedelta(seconds=due_in_s), cause=CAUSE)


async def claim(books: Books) -> list[str]:
    async with books.transaction() as connection:
        return [one.key for one in await take_timers(connection, kinds=["probe"], now=NOW)]


async def test_whoever_runs_a_timer_holds_its_member(books: Books) -> None:
    """While the handler decides, nobody else can take the member."""
    member, claimed_beside = uuid4(), set[UUID]()
    async with books.transaction() as connection:
        await lock_members(connection, [member])
        await save_timers(connection, [timer(member)])

    async def decide(connection: Connection, timers: Sequence[Timer], /, *, now: Any) -> Outcomes:
        async with books.transaction() as other:
            claimed_beside.update(await claim_members(other, [one.member_id for one in timers], limit=1))
        return Outcomes()

    async with books.transaction() as connection:
        run = await run_timers(
            connection, {"probe": decide}, service="probe", now=NOW, settle_waiting=books.settle, caution=Caution()
        )
        assert run.run == 1
    assert claimed_beside == set()


async def test_a_timer_that_was_cancelled_before_its_member_was_locked_does_not_run(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a timer that was found due, when it is cancelled before the lock is granted, then the rows, read after the
    lock, lack it; one that was moved ahead meanwhile is not taken either."""
    cancelled, moved, due = uuid4(), uuid4(), uuid4()
    async with books.transaction() as connection:
        await lock_members(connection, [cancelled, moved, due])
        await save_timers(connection, [timer(cancelled), timer(moved), timer(due)])

    async def claim_after_somebody_else(connection: Connection, member_ids: list[UUID], *, limit: int) -> set[UUID]:
        async with books.transaction() as other:
            await other.execute("set local lock_timeout = '1s'")
            await lock_members(other, [cancelled, moved])
            await cancel_timers(other, kind="probe", keys=[str(cancelled)])
            await save_timers(other, [timer(moved, due_in_s=60)])
        return await claim_members(connection, member_ids, limit=limit)

    monkeypatch.setattr(runtime, "claim_members", claim_after_somebody_else)
    assert await claim(books) == [str(due)]
    assert [row["key"] for row in await books.pool.fetch("select key from delivery.timers")] == [str(moved)]


async def test_a_timer_that_a_safety_group_is_moving_is_left_alone(books: Books) -> None:
    """It holds no member's lock. Given a timer that it moves and has not committed, when timers are claimed, then that
    one is neither waited for nor run at its old time."""
    member, other = uuid4(), uuid4()
    async with books.transaction() as connection:
        await lock_members(connection, [member, other])
        await save_timers(connection, [timer(member), timer(other)])
    async with books.transaction() as safety:
        await save_timers(safety, [timer(member, due_in_s=60)])
        async with books.transaction() as connection:
            await connection.execute("set local lock_timeout = '1s'")
            claimed = [one.key for one in await take_timers(connection, kinds=["probe"], now=NOW)]
            assert claimed == [str(other)]
    assert await claim(books) == []
    left = await books.pool.fetchrow("select key, due_at from delivery.timers")
    assert left
    assert tuple(left) == (str(member), NOW + timedelta(seconds=60))


async def test_a_timer_that_was_moved_while_its_row_was_waited_for_is_not_run(books: Books) -> None:
    """The same where the claim comes first to the row: who moves it waits, and moves what is left, not what ran."""
    member = uuid4()
    async with books.transaction() as connection:
        await lock_members(connection, [member])
        await save_timers(connection, [timer(member)])

    async def move() -> None:
        async with books.transaction() as safety:
            await save_timers(safety, [timer(member, due_in_s=60)])

    async with books.transaction() as connection:
        assert len(await take_timers(connection, kinds=["probe"], now=NOW)) == 1
        moving = asyncio.create_task(move())
        await books.somebody_waits()
    await moving
    assert await claim(books) == []
    assert await books.pool.fetchval("select due_at from delivery.timers") == NOW + timedelta(seconds=60)


async def test_of_a_timer_that_is_set_twice_at_once_the_last_time_holds(books: Books) -> None:
    member = uuid4()
    async with books.transaction() as connection:
        await lock_members(connection, [member])
        await save_timers(connection, [timer(member), timer(member, due_in_s=60)])
    assert await books.pool.fetchval("select due_at from delivery.timers") == NOW + timedelta(seconds=60)
