"""Queues of held events: who looks at one holds its member, and what is added or taken is so in order, and whole."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from deploy.dead_letters.listing import Filters, count_ids, find_ids, list_queues, newest_id
from deploy.reconciliation.books import Disagreeing, count_disagreeing
from shared.arrivals import WAIT_MAX
from shared.clock import wall_now
from shared.database import LOCK_TIMEOUT, Connection
from shared.dead_letters import Bench, Step, discard, go_on, replay
from shared.inbox import find_outcomes
from shared.member_locks import claim_members, lock_members
from shared.positions import lock_positions
from tests.shared.delivery.books import GROUP, JOINING, PARTITIONS, Books
from tests.shared.delivery.operating import OLD_PAIN, old_pain, readers, upcast_pain
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused


async def replay_head(books: Books, connection: Connection) -> Step:
    head = (await books.held())[0]["held_id"]
    return await replay(connection, head, Bench(readers=books.readers, service="probe", now=wall_now()))


async def test_a_consumer_sees_the_queue_that_was_committed_while_it_waited_for_the_member(books: Books) -> None:
    """Given somebody who parks a member and has not committed, when another partition brings the member's next event,
    then it is parked behind: the queue is read after the lock was granted, and not before."""
    member = uuid4()
    async with books.transaction() as connection:
        await books.take_in(connection, books.write(pain(member, 9)), isolated=True)
        later = asyncio.create_task(books.take(books.write(pain(member, 1), partition=1)))
        await books.somebody_waits()
    assert (await later).counts.parked == 1
    assert await books.effects(member) == []


async def test_members_are_locked_in_the_order_of_their_keys(books: Books) -> None:
    """Given a chunk that needs two members and finds the smaller one held, then it does not hold the larger one yet:
    so no two chunks wait for each other in a circle."""
    small, large = sorted((uuid4(), uuid4()))
    await books.take(books.write(pain(small, 1)), books.write(pain(large, 1)))
    async with books.transaction() as connection:
        await claim_members(connection, [small], limit=1)
        waiting = asyncio.create_task(
            books.take(books.write(pain(large, 2), partition=1), books.write(pain(small, 2), partition=1))
        )
        await books.somebody_waits()
        assert await claim_members(connection, [large], limit=1) == {large}
    assert (await waiting).counts.new == 2


async def test_a_queue_is_in_log_order_whichever_way_each_came_to_be_held(books: Books) -> None:
    """One waits, and shows it only in the handler; the next cannot be read, and shows it before; a third is behind."""
    member = uuid4()
    await books.take(
        books.write(pain(member, 8)), books.write_raw(old_pain(member, 1), key=member), books.write(pain(member, 2))
    )
    assert [(row["record_offset"], row["state"]) for row in await books.held()] == [
        (0, "waiting"), (1, "dead"), (2, "parked"),
    ]  # fmt: skip


async def test_draining_waits_for_the_member_and_sees_what_was_added_meanwhile(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 9)), isolated=True)
    await books.fix()
    async with books.transaction() as connection:
        await books.take_in(connection, books.write(pain(member, 1)))

        async def operate() -> Step:
            async with books.transaction() as other:
                return await replay_head(books, other)

        replaying = asyncio.create_task(operate())
        await books.somebody_waits()
    assert (await replaying).taken == 2
    assert await books.effects(member) == [9, 1]
    assert await books.held() == []


async def test_draining_needs_no_position(books: Books) -> None:
    """Given every partition in hand somewhere, when an operator replays, then nothing is waited for."""
    member = uuid4()
    await books.take(books.write(pain(member, 9)), books.write(pain(member, 1)), isolated=True)
    await books.fix()
    async with books.transaction() as consuming:
        for partition in range(PARTITIONS):
            await lock_positions(consuming, GROUP, ACTIVITY, [partition], lock_timeout=LOCK_TIMEOUT)
        async with books.transaction() as connection:
            await connection.execute("set local lock_timeout = '1ms'")
            assert (await replay_head(books, connection)).taken == 2
    assert await books.effects(member) == [9, 1]


class Cut(Exception):
    """The connection is lost before the commit."""


@pytest.mark.parametrize("way", ["replayed", "released"])
async def test_effect_outbox_and_row_of_a_drained_event_are_one_transaction(books: Books, way: str) -> None:
    """Given a queue that is drained, when the connection is cut before the commit, then all is as before; when it is
    not, all of it has happened."""
    member = uuid4()
    await books.take(
        books.write(pain(member, 9 if way == "replayed" else 8)), books.write(pain(member, 1)), isolated=True
    )
    await books.fix()
    joining = books.write(paused(member), topic=MEMBERS)

    async def drain(*, cut: bool) -> None:
        async with books.transaction() as connection:
            if way == "replayed":
                await replay_head(books, connection)
            else:
                await books.take_in(connection, joining, group=JOINING)
            if cut:
                raise Cut

    async def seen() -> tuple[int, int, int]:
        return len(await books.effects(member)), len(await books.published()), len(await books.held())

    with pytest.raises(Cut):
        await drain(cut=True)
    assert await seen() == (0, 0, 2)
    books.bases.clear()
    await drain(cut=False)
    assert await seen() == (2, 2, 0)


async def test_what_a_replay_decides_goes_through_the_outbox(books: Books) -> None:
    """In its own transaction, with the identity that the chunk would have given it, in the order of the queue."""
    member = uuid4()
    events = [pain(member, 9), pain(member, 1)]
    await books.take(*map(books.write, events), isolated=True)
    await books.fix()
    async with books.transaction() as connection:
        step = await replay_head(books, connection)
        assert step.published == 2
        assert await connection.fetchval("select count(*) from delivery.outbox") == 2
        assert await books.published() == [], "nobody sees it before the effect"
    told = await books.published()
    assert [event["causationid"] for event in told] == [event.id for event in events]


async def test_one_that_could_not_be_read_is_taken_under_its_own_identity(books: Books) -> None:
    """Given a record that nobody could read when it came, when a mended reader replays it, then a copy of the event
    that comes later is a duplicate."""
    member = uuid4()
    value = old_pain(member, 2)
    await books.take(books.write_raw(value, key=member))
    books.readers = readers({OLD_PAIN: upcast_pain})
    async with books.transaction() as connection:
        assert (await replay_head(books, connection)).taken == 1
    copy = await books.take(books.write_raw(value, key=member))
    assert copy.counts.duplicate == 1
    assert await books.effects(member) == [2]


async def test_one_that_could_not_be_read_is_looked_up(books: Books) -> None:
    """Given a copy that the mended reader has parked behind the record that nobody could read, when that is replayed,
    then one of the two takes effect: the first."""
    member = uuid4()
    value = old_pain(member, 2)
    await books.take(books.write_raw(value, key=member))
    books.readers = readers({OLD_PAIN: upcast_pain})
    assert (await books.take(books.write_raw(value, key=member))).counts.parked == 1
    async with books.transaction() as connection:
        step = await replay_head(books, connection)
    assert [fate.outcome for fate in step.fates] == ["applied", "duplicate"]
    assert await books.effects(member) == [2]
    assert await books.held() == []


async def hold_a_copy_behind(books: Books, member: UUID, *scores: int) -> list[int]:
    """One that nobody can read, others behind it, and, since the reader was mended, a copy of the first behind all; the
    ids of all in order."""
    first = old_pain(member, scores[0])
    rest = [pain(member, score) for score in scores[1:]]
    await books.take(books.write_raw(first, key=member), *map(books.write, rest))
    books.readers = readers({OLD_PAIN: upcast_pain})
    again = await books.take(books.write_raw(first, key=member), *map(books.write, rest))
    assert (again.counts.parked, again.counts.duplicate) == (1, len(rest))
    return [row["held_id"] for row in await books.held()]


async def agree(books: Books) -> bool:
    """Held events and inbox tell the same story."""
    async with books.transaction() as connection:
        return await count_disagreeing(connection) == Disagreeing(held=0, told=0)


@pytest.mark.parametrize("page", [1, 2, 3, 4])
async def test_the_first_of_two_copies_takes_effect_at_its_place(books: Books, page: int) -> None:
    """Given a copy, parked behind others, of a record that nobody could read when it came, when that is replayed, then
    it takes effect before the others, and the copy never, in whatever transaction its turn comes."""
    member = uuid4()
    head, *_ = await hold_a_copy_behind(books, member, 1, 2, 3)
    bench = Bench(readers=books.readers, service="probe", now=wall_now(), page=page)
    async with books.transaction() as connection:
        step = await replay(connection, head, bench)
    fates = step.fates
    while step.rest is not None:
        assert await agree(books)
        async with books.transaction() as connection:
            step = await go_on(connection, step.rest, bench)
        fates += step.fates
    assert [fate.outcome for fate in fates] == ["applied", "applied", "applied", "duplicate"]
    assert await books.effects(member) == [1, 2, 3]
    assert await books.held() == []
    assert await agree(books)


async def test_a_copy_stays_a_copy_where_the_queue_stops_between_the_two(books: Books) -> None:
    member = uuid4()
    head, *_ = await hold_a_copy_behind(books, member, 1, 9)
    bench = Bench(readers=books.readers, service="probe", now=wall_now())
    async with books.transaction() as connection:
        await replay(connection, head, bench)
    assert [(row["state"], row["reason"]) for row in await books.held()] == [("dead", "bug"), ("parked", "behind")]
    assert await agree(books)
    async with books.transaction() as connection:
        await discard(connection, (await books.held())[0]["held_id"], bench)
    assert await books.effects(member) == [1]
    assert await books.held() == []


async def test_the_first_of_two_copies_that_fails_again_is_the_event_and_the_other_its_copy(books: Books) -> None:
    """Mended once more, it takes effect at its place; discarded, so is the event, however often it was published."""
    effects = {}
    for way in ("mended", "discarded"):
        member = uuid4()
        books.readers = readers()
        head, *_ = (await hold_a_copy_behind(books, member, 9, 2))[-3:]
        bench = Bench(readers=books.readers, service="probe", now=wall_now())
        for _ in range(2):
            async with books.transaction() as connection:
                await replay(connection, head, bench)
            assert [row["state"] for row in await books.held()] == ["dead", "parked", "parked"]
            assert await agree(books)
        if way == "mended":
            await books.fix()
        async with books.transaction() as connection:
            await (replay if way == "mended" else discard)(connection, head, bench)
        effects[way] = await books.effects(member)
        assert await books.held() == []
        await books.pool.execute("delete from switches")
    assert effects == {"mended": [9, 2], "discarded": [2]}


async def test_only_what_was_tried_counts_as_replayed(books: Books) -> None:
    """Given a queue of which a replay takes the first page, then nobody has tried the head of what is left."""
    member = uuid4()
    await books.take(books.write(pain(member, 9)), *(books.write(pain(member, 1)) for _ in range(3)), isolated=True)
    await books.fix()
    head = (await books.held())[0]["held_id"]
    bench = Bench(readers=books.readers, service="probe", now=wall_now(), page=2)
    async with books.transaction() as connection:
        step = await replay(connection, head, bench)
    assert step.rest is not None
    assert [(row["state"], row["replays"]) for row in await books.held()] == [("waiting", 0), ("parked", 0)]


async def test_what_is_parked_behind_nothing_can_be_discarded(books: Books) -> None:
    """Given a queue whose dead letter was discarded while no handler read the group, when one reads it again, then the
    head that was parked can be discarded like any other, and what is behind it goes on."""
    member = uuid4()
    await books.take(*(books.write(pain(member, score)) for score in (9, 1, 2)), isolated=True)
    dead, parked, _ = [row["held_id"] for row in await books.held()]
    for held_id, readers_then in ((dead, {}), (parked, books.readers)):
        async with books.transaction() as connection:
            step = await discard(connection, held_id, Bench(readers=readers_then, service="probe", now=wall_now()))
        assert step.result == "done", step.answer
    assert await books.effects(member) == [2]
    assert await books.held() == []
    kept = await books.pool.fetch("select detail from delivery.inbox where outcome = 'discarded' order by detail")
    assert [row["detail"] for row in kept] == ["behind", "bug"], "whoever asks learns what each was held for"


async def test_what_turns_out_to_wait_in_the_rest_of_a_long_queue_has_its_whole_day(books: Books) -> None:
    """Not the minute after which somebody else may go on with the queue: it would be a dead letter then."""
    member, now = uuid4(), wall_now()
    await books.take(*(books.write(pain(member, score)) for score in (9, 1, 8, 2)), isolated=True)
    await books.fix()
    head = (await books.held())[0]["held_id"]
    bench = Bench(readers=books.readers, service="probe", now=now, page=2, rest_at=now + timedelta(minutes=1))
    async with books.transaction() as connection:
        step = await replay(connection, head, bench)
        assert step.rest is not None
        await go_on(connection, step.rest, bench)
    waiting, _ = await books.held()
    assert (waiting["state"], waiting["reason"], waiting["expires_at"]) == ("waiting", "member", now + WAIT_MAX)


async def test_what_is_left_of_a_queue_is_the_operators_for_a_while_after_each_page(books: Books) -> None:
    member, now = uuid4(), wall_now()
    await books.take(books.write(pain(member, 9)), *(books.write(pain(member, 1)) for _ in range(3)), isolated=True)
    await books.fix()
    head = (await books.held())[0]["held_id"]
    bench = Bench(readers=books.readers, service="probe", now=now, page=1, rest_at=now + timedelta(minutes=1))
    async with books.transaction() as connection:
        step = await replay(connection, head, bench)
    for _ in range(2):
        assert (await books.held())[0]["expires_at"] == bench.rest_at
        async with books.transaction() as connection:
            assert step.rest is not None
            step = await go_on(connection, step.rest, bench)
    assert len(await books.held()) == 1


async def test_one_that_still_waits_was_tried_once(books: Books) -> None:
    """An operator reads from the count how often its member had something new in vain."""
    member = uuid4()
    await books.take(books.write(pain(member, 8)), books.write(pain(member, 1)))
    for tries in (1, 2):
        async with books.transaction() as connection:
            await lock_members(connection, [member])
            await books.settle(connection, [member], wall_now())
        assert [row["replays"] for row in await books.held()] == [tries, 0]


async def test_a_queue_that_a_replay_left_in_the_middle_is_found_by_the_next_one(books: Books) -> None:
    """Whoever replays all again goes on with it, although no dead letter stands at its head any more."""
    member = uuid4()
    await books.take(books.write(pain(member, 9)), *(books.write(pain(member, 1)) for _ in range(3)), isolated=True)
    await books.fix()
    head, *_, rest, _ = [row["held_id"] for row in await books.held()]
    bench = Bench(readers=books.readers, service="probe", now=wall_now(), page=2)
    async with books.transaction() as connection:
        await replay(connection, head, bench)
        until = await newest_id(connection)
        assert await find_ids(connection, Filters(), after=0, until=until, limit=10) == [rest]
        assert await count_ids(connection, Filters()) == 1
        assert await find_ids(connection, Filters(state="dead"), after=0, until=until, limit=10) == []


async def test_the_queues_of_a_member_are_told_apart_and_the_longest_comes_first(books: Books) -> None:
    """Each with its own head: that is the one an operator has to replay or discard."""
    member = uuid4()
    await books.take(
        books.write_raw(b"{", key=member, topic=MEMBERS), books.write(paused(member), topic=MEMBERS), group=JOINING
    )
    await books.take(*(books.write(pain(member, score)) for score in (9, 1, 2)), isolated=True)
    heads = [(await books.held(group))[0]["held_id"] for group in (GROUP, JOINING)]
    async with books.transaction() as connection:
        queues = await list_queues(connection, Filters(state="parked"), limit=10)
    assert [(one["group"], one["events"], one["head"]) for one in queues] == [
        (GROUP, 2, heads[0]), (JOINING, 1, heads[1]),
    ]  # fmt: skip


async def test_one_that_was_set_apart_while_somebody_began_to_replay_it_is_replayed_alone(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 9)), isolated=True)
    await books.fix()

    async def operate() -> Step:
        async with books.transaction() as connection:
            return await replay_head(books, connection)

    async with books.transaction() as other:
        await lock_members(other, [member])
        replaying = asyncio.create_task(operate())
        await books.somebody_waits()
        await other.execute("update delivery.held_events set blocks = false")
    step = await replaying
    assert (step.result, step.answer) == ("done", None)
    assert await books.effects(member) == [9]


@pytest.mark.parametrize("way", ["in its queue", "alone"])
async def test_what_became_of_one_that_was_at_fault_is_told_under_its_own_identity(books: Books, way: str) -> None:
    """Whoever sent it asks by that, and knows nothing of its place in the log."""
    member = uuid4()
    if way == "alone":
        await books.take(books.write(pain(member, 7, event_id="e"), key=uuid4()))
    else:
        await books.take(books.write_raw(old_pain(member, 7, id="e"), key=member))
        books.readers = readers({OLD_PAIN: upcast_pain})
    async with books.transaction() as connection:
        step = await replay_head(books, connection)
        found = await find_outcomes(connection, group=GROUP, events=[("urn:test:app", "e")])
    assert [fate.outcome for fate in step.fates] == ["refused"]
    assert [(one.outcome, one.detail) for one in found.values()] == [("refused", "seven")]


async def test_a_long_queue_takes_one_page_of_the_transaction_that_releases_it(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is for the next ones: whatever brought what it waited for is not held up by all of it."""
    monkeypatch.setattr("shared.replaying.QUEUE_PAGE", 20)
    member = uuid4()
    await books.take(books.write(pain(member, 8)), *(books.write(pain(member, 1)) for _ in range(49)))
    await books.take(books.write(paused(member), topic=MEMBERS), group=JOINING)
    assert len(await books.effects(member)) == 20
    assert len(await books.held()) == 30
