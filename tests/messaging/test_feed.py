"""The feed: what a reader has not seen comes later, never behind its cursor."""

import asyncio
import random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging.domain.feed import FeedEntry, FeedHead, NewFeedEntry, merge_entries, place_cursor
from services.messaging.domain.people import ONCALL_AUDIENCE
from services.messaging.store.feed import PRUNE, load_feed_head, look_at_feed, prune_feed, save_feed_entries
from tests.fixtures.eventually import eventually
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, DAY, MEMBER, NOW, PT, STRANGER


def entry(member_id: UUID = MEMBER, *, change: str = "raised", **values: Any) -> NewFeedEntry:
    return NewFeedEntry(kind="alert", change=change, member_id=member_id, subject_id=uuid4(), **values)


async def read(clinic: Clinic, *audiences: UUID, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
    async with clinic.database.acquire() as connection:
        look = await look_at_feed(connection, audiences=audiences, after=after, limit=limit)
        found = look.since(after, audiences)
        assert found is not None
        return found


async def head(clinic: Clinic) -> FeedHead:
    async with clinic.database.acquire() as connection:
        return await load_feed_head(connection)


async def test_the_team_sees_it_and_nobody_else(clinic: Clinic) -> None:
    start = (await head(clinic)).last_number
    async with clinic.transaction() as connection:
        await save_feed_entries(
            connection,
            [
                entry(),
                entry(oncall=True),
                entry(also=(STRANGER.practitioner_id,)),
                entry(uuid4()),
                entry(also=(PT.practitioner_id, STRANGER.practitioner_id, STRANGER.practitioner_id)),
            ],
            now=NOW,
        )

    def numbers(found: list[FeedEntry]) -> list[int]:
        return [e.number - start for e in found]

    assert numbers(await read(clinic, COACH.practitioner_id, after=start)) == [1, 2, 3, 5]
    assert numbers(await read(clinic, PT.practitioner_id, after=start)) == [1, 2, 3, 5]
    assert numbers(await read(clinic, ONCALL_AUDIENCE, after=start)) == [2]
    assert numbers(await read(clinic, STRANGER.practitioner_id, after=start)) == [3, 5]
    everyone = (COACH.practitioner_id, PT.practitioner_id, STRANGER.practitioner_id, ONCALL_AUDIENCE)
    assert numbers(await read(clinic, *everyone, after=start)) == [1, 2, 3, 5], "once each"


async def test_who_is_both_of_a_care_team_sees_it_once(clinic: Clinic) -> None:
    await clinic.database.execute("update member_profiles set coach_id = pt_id where member_id = $1", MEMBER)
    start = (await head(clinic)).last_number
    async with clinic.transaction() as connection:
        await save_feed_entries(connection, [entry(also=(PT.practitioner_id,))], now=NOW)
    assert [e.number - start for e in await read(clinic, PT.practitioner_id, after=start)] == [1]


async def test_a_number_is_never_visible_before_a_smaller_one(clinic: Clinic) -> None:
    """A slow writer takes its numbers first and commits last: the second waits, so no reader can step over it."""
    start = (await head(clinic)).last_number
    written, finish = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with clinic.transaction(uuid4()) as connection:
            await save_feed_entries(connection, [entry(change="slow")], now=NOW)
            written.set()
            await finish.wait()

    async def quick() -> None:
        async with clinic.transaction(uuid4()) as connection:
            await save_feed_entries(connection, [entry(change="quick")], now=NOW)

    first = asyncio.create_task(slow())
    await written.wait()
    second = asyncio.create_task(quick())
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    await eventually(lambda: clinic.database.fetchval(waits), what="the second writer waits for the first")
    assert not second.done()
    assert await read(clinic, COACH.practitioner_id, after=start) == []
    finish.set()
    await asyncio.gather(first, second)
    found = await read(clinic, COACH.practitioner_id, after=start)
    assert [(e.number - start, e.change) for e in found] == [(1, "slow"), (2, "quick")]


async def test_a_reader_misses_nothing_while_many_write(clinic: Clinic) -> None:
    start = (await head(clinic)).last_number
    rng, writers, each = random.Random(7), 6, 15

    async def write() -> None:
        for _ in range(each):
            async with clinic.transaction(uuid4()) as connection:
                await save_feed_entries(connection, [entry() for _ in range(rng.randint(1, 3))], now=NOW)
                if rng.random() < 0.2:
                    await connection.execute("select pg_sleep(0.002)")

    seen: list[int] = []
    tasks = [asyncio.create_task(write()) for _ in range(writers)]
    cursor = start
    while True:
        finished = all(task.done() for task in tasks)
        found = await read(clinic, COACH.practitioner_id, after=cursor, limit=7)
        seen += [e.number for e in found]
        cursor = seen[-1] if seen else start
        if finished and not found:
            break
    await asyncio.gather(*tasks)
    assert seen == list(range(start + 1, (await head(clinic)).last_number + 1))


async def test_a_rolled_back_write_leaves_no_gap(clinic: Clinic) -> None:
    start = (await head(clinic)).last_number

    async def fail() -> None:
        async with clinic.transaction() as connection:
            await save_feed_entries(connection, [entry()], now=NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with clinic.transaction() as connection:
        await save_feed_entries(connection, [entry()], now=NOW)
    assert [e.number for e in await read(clinic, PT.practitioner_id, after=start)] == [start + 1]


async def test_pruning_tells_readers_that_were_away_too_long(clinic: Clinic) -> None:
    async with clinic.transaction() as connection:
        await save_feed_entries(connection, [entry(), entry()], now=NOW + DAY)
    pruned_to = (await head(clinic)).last_number
    async with clinic.transaction() as connection:
        await save_feed_entries(connection, [entry()], now=NOW + 3 * DAY)
        assert await prune_feed(connection, before=NOW + 2 * DAY) > 0
        assert await prune_feed(connection, before=NOW + 2 * DAY) == 0
    after = await head(clinic)
    assert after == FeedHead(last_number=pruned_to + 1, pruned_to=pruned_to)
    assert place_cursor(asked=pruned_to - 1, head=after) == (pruned_to + 1, True)
    assert place_cursor(asked=pruned_to, head=after) == (pruned_to, False)
    assert len(await read(clinic, COACH.practitioner_id)) == 1


async def test_pruning_reads_what_is_old_and_nothing_else(clinic: Clinic) -> None:
    fill = """
    insert into feed
    select gen_random_uuid(), n, 'member', 'plan', gen_random_uuid(), gen_random_uuid(), $1::timestamptz
    from generate_series($2::int, $3::int) n
    """
    async with clinic.transaction() as connection:
        await connection.execute(fill, NOW, 1_001, 4_000)
        await connection.execute("analyze feed")
        await connection.execute(fill, NOW - DAY, 901, 903)
        rows = await connection.fetch(f"explain (analyze, timing off) {PRUNE}", NOW, 5_000)
    plan = "\n".join(row[0] for row in rows)
    assert "Index Cond: (entered_at <" in plan, plan
    assert "TID Cond" in plan, plan
    assert "Rows Removed" not in plan, plan


@given(last=st.integers(0, 50), pruned=st.integers(0, 50), asked=st.none() | st.integers(0, 60))
def test_a_cursor_is_kept_unless_it_would_miss_something(last: int, pruned: int, asked: int | None) -> None:
    where = FeedHead(last_number=max(last, pruned), pruned_to=pruned)
    cursor, afresh = place_cursor(asked=asked, head=where)
    assert where.pruned_to <= cursor <= where.last_number
    if asked is None:
        assert (cursor, afresh) == (where.last_number, False)
    elif not afresh:
        assert cursor == asked
    else:
        assert asked < where.pruned_to or asked > where.last_number


@given(st.lists(st.integers(1, 20), max_size=30))
def test_entries_of_two_audiences_come_once_and_in_order(numbers: list[int]) -> None:
    entries = [
        FeedEntry(number=n, kind="alert", change="raised", member_id=MEMBER, subject_id=MEMBER, entered_at=NOW)
        for n in numbers
    ]
    assert [e.number for e in merge_entries(entries)] == sorted(set(numbers))
