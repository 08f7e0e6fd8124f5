"""What was taken is never taken again, whatever became of it; what was not taken can still be published rightly."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import orjson
import pytest

from deploy.reconciliation.books import Disagreeing, count_disagreeing
from shared import housekeeping
from shared.arrivals import AGE_MAX, AHEAD_MAX
from shared.clock import wall_now
from shared.database import Connection
from shared.dead_letters import Bench, discard, replay
from shared.ending import end_tasks
from shared.events.codec import encode
from shared.inbox import IDENTITY_BYTES, LateConflict, find_apart, forget_taken, inbox_identity, take_late
from tests.fixtures.eventually import eventually
from tests.shared.delivery.books import GROUP, JOINING, Books
from tests.shared.delivery.operating import OLD_PAIN, old_pain, readers, upcast_pain
from tests.shared.delivery.probe import MEMBERS, pain, paused


async def test_a_parked_event_that_comes_again_is_parked_once(books: Books) -> None:
    """Given a member behind a dead letter, when an event is parked and comes again, then it takes effect once."""
    member = uuid4()
    event = pain(member, 2)
    await books.take(books.write(pain(member, 9)), isolated=True)
    first = await books.take(books.write(event), books.write(event))
    again = await books.take(books.write(event))
    elsewhere = await books.take(books.write(event, partition=1))
    assert [(taken.counts.parked, taken.counts.duplicate) for taken in (first, again, elsewhere)] == [
        (1, 1), (0, 1), (0, 1),
    ]  # fmt: skip
    await books.fix()
    head, _ = await books.held()
    async with books.transaction() as connection:
        await replay(connection, head["held_id"], Bench(readers=books.readers, service="probe", now=wall_now()))
    assert await books.effects(member) == [9, 2]


async def test_a_guilty_event_that_comes_again_is_one_dead_letter(books: Books) -> None:
    """Its savepoint is rolled back, its inbox row is not: a copy is no second dead letter."""
    member, other = uuid4(), uuid4()
    guilty = pain(member, 9)
    taken = await books.take(books.write(pain(other, 1)), books.write(guilty), isolated=True)
    assert (taken.counts.new, taken.counts.dead) == (1, 1)
    again = await books.take(books.write(guilty))
    assert again.counts.duplicate == 1
    assert [(row["state"], row["reason"]) for row in await books.held()] == [("dead", "bug")]
    outcome = "select outcome from delivery.inbox where outcome <> 'applied'"
    assert [row["outcome"] for row in await books.pool.fetch(outcome)] == ["dead"]


async def test_what_two_partitions_bring_at_once_takes_effect_once(books: Books) -> None:
    """Given two members' events of one identity, when the second is taken while the first is not committed, then it
    waits, notices, and is taken again as what it is: another body."""
    first, second = (pain(uuid4(), score, event_id="same") for score in (1, 2))
    late = books.write(second, partition=1)
    async with books.transaction() as connection:
        await books.take_in(connection, books.write(first))
        once = asyncio.create_task(books.take(late))
        await books.somebody_waits()
        again = asyncio.create_task(books.take_as_the_runtime(late))
        await books.somebody_waits(2)
    with pytest.raises(LateConflict):
        await once
    await again
    assert (await books.effects(first.subject), await books.effects(second.subject)) == ([1], [])
    assert [row["reason"] for row in await books.held()] == ["identity-conflict"]


@pytest.mark.parametrize("fault", ["wrong-key", "time-ahead", "too-old"])
async def test_a_fault_outside_the_event_leaves_its_identity_free(books: Books, fault: str) -> None:
    """Given an event whose record or clock was wrong, when it is published rightly, then it is no duplicate."""
    shift = {"time-ahead": timedelta(days=1), "too-old": -timedelta(days=40)}.get(fault, timedelta(0))
    event = pain(uuid4(), 3)
    wrong = orjson.dumps({**orjson.loads(encode(event)), "time": (datetime.now(UTC) + shift).isoformat()})
    key = uuid4() if fault == "wrong-key" else event.subject
    taken = await books.take(books.write_raw(wrong, key=key), books.write(event))
    assert (taken.counts.dead, taken.counts.new) == (1, 1)
    assert [row["reason"] for row in await books.held()] == [fault]
    assert await books.effects(event.subject) == [3]


async def forget_all_that_is_old(books: Books) -> int:
    """As if all had been taken 36 days ago."""
    await books.pool.execute("update delivery.inbox set taken_at = taken_at - interval '36 days'")
    async with books.transaction() as connection:
        return await forget_taken(connection, await find_apart(connection))


async def replay_the_one_held(books: Books, *, after: timedelta = timedelta(0)) -> list[str]:
    """What became of it."""
    (row,) = await books.held()
    async with books.transaction() as connection:
        bench = Bench(readers=books.readers, service="probe", now=wall_now() + after)
        step = await replay(connection, row["held_id"], bench)
    return [fate.outcome for fate in step.fates]


async def test_very_many_that_stand_alone_are_read_page_by_page(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a safety group can make millions: of all of them at once the process would stand still."""
    monkeypatch.setattr("shared.inbox.APART_PAGE", 2)
    events = [pain(uuid4(), 3) for _ in range(5)]
    await books.take(*(books.write(event, key=uuid4()) for event in events))
    await books.take(*(books.write(event) for event in [*events, pain(uuid4(), 3)]))
    read = list[int]()

    class Counted:
        def __init__(self, connection: Connection) -> None:
            self._connection = connection

        async def fetch(self, *asked: Any) -> Any:
            rows = await self._connection.fetch(*asked)
            read.append(len(rows))
            return rows

    async with books.transaction() as connection:
        apart = await find_apart(cast(Any, Counted(connection)))
    assert read == [2, 2, 1, 0]
    assert len(apart) == len(events) * IDENTITY_BYTES
    assert await forget_all_that_is_old(books) == 1


@pytest.mark.parametrize("fault", ["wrong-key", "time-ahead", "wrong-key, and unreadable"])
async def test_a_copy_of_what_stands_alone_is_remembered_as_long_as_that_is_held(books: Books, fault: str) -> None:
    """Given a dead letter whose event was published rightly, when it is replayed after longer than an inbox remembers,
    then it is a duplicate still. Others are forgotten, and so is this one from then on."""
    member, other = uuid4(), uuid4()
    event = pain(member, 3)
    if fault == "wrong-key":
        await books.take(books.write(event, key=other))
    elif fault == "time-ahead":
        raw = {**orjson.loads(encode(event)), "time": (wall_now() + timedelta(days=1)).isoformat()}
        await books.take(books.write_raw(orjson.dumps(raw), key=member))
    else:
        await books.take(books.write_raw(old_pain(member, 3, source=event.source, id=event.id), key=other))
        books.readers = readers({OLD_PAIN: upcast_pain})
        assert await replay_the_one_held(books) == ["dead"]
    await books.take(books.write(event), books.write(pain(member, 1)))
    assert await forget_all_that_is_old(books) == 1
    assert await replay_the_one_held(books, after=timedelta(days=36)) == ["duplicate"]
    assert await books.effects(member) == [3, 1]
    assert await forget_all_that_is_old(books) == 2


async def test_another_body_that_is_read_once_more_stays_known(books: Books) -> None:
    """Given an operator who sets the position back to before another body under a known identity, when it is read once
    more, then the inbox still knows it by its place."""
    member = uuid4()
    first, other = books.write(pain(member, 1, event_id="e")), books.write(pain(member, 2, event_id="e"))
    await books.take(first, other)
    await books.pool.execute("update delivery.positions set next_offset = 0")
    books.bases.clear()
    await books.take(first, other)
    async with books.pool.acquire() as connection:
        assert await count_disagreeing(connection) == Disagreeing(held=0, told=0)


async def test_another_body_that_was_discarded_stays_so_when_it_is_read_once_more(books: Books) -> None:
    """However often an operator sets the position back to before it; others are dead letters as ever."""
    member = uuid4()
    first, other = books.write(pain(member, 1, event_id="e")), books.write(pain(member, 2, event_id="e"))
    await books.take(first, other)
    (row,) = await books.held()
    async with books.transaction() as connection:
        await discard(connection, row["held_id"], Bench(readers=books.readers, service="probe", now=wall_now()))
    for _ in range(2):
        await books.pool.execute("update delivery.positions set next_offset = 0")
        books.bases.clear()
        await books.take(first, other)
        assert await books.held() == []
    outcomes = await books.pool.fetch("select outcome from delivery.inbox order by outcome")
    assert [row["outcome"] for row in outcomes] == ["applied", "discarded"]
    await books.take(books.write(pain(member, 3, event_id="e")))
    assert [row["reason"] for row in await books.held()] == ["identity-conflict"]
    assert await books.effects(member) == [1]
    async with books.pool.acquire() as connection:
        assert await count_disagreeing(connection) == Disagreeing(held=0, told=0)


@pytest.mark.parametrize(("age_d", "reason"), [(33, None), (35, "too-old")])
async def test_what_is_older_than_inboxes_remember_is_not_taken_however_long_it_lay_in_the_log(
    books: Books, age_d: int, reason: str | None
) -> None:
    """Given an event that was published in time and lay in the log for ten days, then it is taken as long as a copy of
    it would be known."""
    event = pain(uuid4(), 3).model_copy(update={"time": wall_now() - timedelta(days=age_d)})
    written = int((wall_now() - timedelta(days=10)).timestamp() * 1000)
    await books.take(replace(books.write(event), timestamp=written))
    assert [row["reason"] for row in await books.held()] == ([reason] if reason else [])
    assert await books.effects(event.subject) == ([] if reason else [3])


@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (-AGE_MAX - timedelta(seconds=30), None),
        (-AGE_MAX - timedelta(minutes=4), "too-old"),
        (AHEAD_MAX + timedelta(minutes=2), None),
        (AHEAD_MAX + timedelta(minutes=4), "time-ahead"),
    ],
)
async def test_what_one_process_has_accepted_no_other_refuses(
    books: Books, shift: timedelta, reason: str | None
) -> None:
    """Its clock may be another, and the record may have come to the log some seconds later."""
    event = pain(uuid4(), 3).model_copy(update={"time": wall_now() + shift})
    await books.take(books.write(event))
    assert [row["reason"] for row in await books.held()] == ([reason] if reason else [])
    assert await books.effects(event.subject) == ([] if reason else [3])


async def test_whoever_forgets_what_was_taken_looks_each_time_what_may_still_be_replayed(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a dead letter that came after a process began to forget, published once more rightly, when that is long
    ago, then the inbox knows it still: a replay would apply it a second time."""
    looks = 0

    async def look(connection: Connection) -> bytes:
        nonlocal looks
        looks += 1
        return await find_apart(connection)

    monkeypatch.setattr(housekeeping, "find_apart", look)
    monkeypatch.setattr(housekeeping, "FORGET_PAUSE_S", 0.01)
    monkeypatch.setattr(housekeeping, "FORGET_EVERY_S", 0.01)
    host = cast(Any, SimpleNamespace(database=books.pool, clock=SimpleNamespace(now=wall_now)))
    forgetting = asyncio.create_task(housekeeping.forget_old(host))

    async def looked_twice() -> None:
        until = looks + 2
        await eventually(lambda: looks >= until, within=20)

    try:
        await looked_twice()
        event = pain(uuid4(), 3)
        await books.take(books.write(event, key=uuid4()))
        await books.take(books.write(event))
        await looked_twice()
        await books.pool.execute("update delivery.inbox set taken_at = now() - interval '40 days'")
        await looked_twice()
        identity = inbox_identity("probe.activity", event.source, event.id)
        assert await books.pool.fetchval("select true from delivery.inbox where identity = $1", identity)
    finally:
        await end_tasks([forgetting], within_s=5)


async def test_what_lies_where_another_lay_a_moment_before_is_held_beside_it(books: Books) -> None:
    """A topic that was made anew begins at the same offsets: what cannot be read there is not taken for what was."""
    first = books.write_raw(b"{", key=uuid4())
    second = replace(first, value=b"[", timestamp=first.timestamp // 1000 * 1000 + (first.timestamp + 1) % 1000)
    for record in (first, second):
        books.bases.clear()
        await books.pool.execute("update delivery.positions set next_offset = 0")
        await books.take(record)
    assert [row["value"] for row in await books.held()] == [b"{", b"["]


async def test_of_two_bodies_that_come_late_under_one_identity_the_first_is_the_event(books: Books) -> None:
    identity, first, second = b"i" * 16, b"1" * 16, b"2" * 16
    async with books.transaction() as connection:
        lates = await take_late(connection, [(identity, first), (identity, second)])
    assert lates == ["taken", "conflict"]
    assert await books.pool.fetchval("select digest from delivery.inbox") == first


async def test_what_lies_at_the_same_offset_of_another_partition_is_held_beside_it(books: Books) -> None:
    first = books.write_raw(b"{", key=uuid4())
    second = replace(books.write_raw(b"[", key=uuid4(), partition=1), timestamp=first.timestamp)
    for record in (first, second):
        taken = await books.take(record)
        assert taken.counts.dead == 1
    assert [row["value"] for row in await books.held()] == [b"{", b"["]


async def test_two_who_take_the_same_records_at_once_count_them_once(books: Books) -> None:
    records = [books.write(pain(uuid4(), 1)) for _ in range(3)]
    async with books.transaction() as connection:
        await books.take_in(connection, *records)
        books.bases.clear()
        late = asyncio.create_task(books.take(*records))
        await books.somebody_waits()
    assert (await late).counts.read == 0
    read = "select records_read from delivery.positions where consumer_group = $1 and partition = 0"
    assert await books.pool.fetchval(read, GROUP) == 3


async def test_a_copy_of_what_was_read_at_last_and_met_a_bug_is_remembered_as_long_as_that_is_held(
    books: Books,
) -> None:
    member = uuid4()
    event = pain(member, 9)
    unread = books.write_raw(old_pain(member, 9, source=event.source, id=event.id), key=member)
    await books.take(replace(unread, key=None))
    books.readers = readers({OLD_PAIN: upcast_pain})
    assert await replay_the_one_held(books) == ["dead"]
    await books.fix()
    await books.take(books.write(event))
    assert await forget_all_that_is_old(books) == 0
    assert await replay_the_one_held(books, after=timedelta(days=36)) == ["duplicate"]
    assert await books.effects(member) == [9]


async def test_a_key_that_is_spelt_otherwise_is_the_members_all_the_same(books: Books) -> None:
    member = uuid4()
    record = books.write(pain(member, 3))
    await books.take(replace(record, key=str(member).upper().encode()))
    assert await books.held() == []
    assert await books.effects(member) == [3]


async def test_what_a_service_of_ours_published_is_taken_whatever_its_clock_said(books: Books) -> None:
    member = uuid4()
    ahead = paused(member).model_copy(update={"time": wall_now() + timedelta(hours=1)})
    taken = await books.take(books.write(ahead, topic=MEMBERS), group=JOINING)
    assert (taken.counts.new, taken.counts.dead) == (1, 0)


async def test_what_came_to_the_log_by_a_clock_that_is_ahead_is_no_older_for_that(books: Books) -> None:
    """A broker takes what is up to an hour ahead. Given an event that was accepted when it was almost too old by the
    clock of another process, then it is taken."""
    event = pain(uuid4(), 3).model_copy(update={"time": wall_now() - AGE_MAX - timedelta(minutes=1)})
    ahead = int((wall_now() + timedelta(minutes=50)).timestamp() * 1000)
    await books.take(replace(books.write(event), timestamp=ahead))
    assert await books.held() == []
    assert await books.effects(event.subject) == [3]
