"""An operator's replay, discard and dry run, page by page, on the books without a broker."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import pytest

from deploy.contracts.examples import EXAMPLES
from deploy.dead_letters import running
from deploy.dead_letters.running import REST_AFTER, TRIES_MAX, Request, Runner
from shared.clock import WallClock, wall_now
from shared.database import Connection, FromNextRelease
from shared.dead_letters import Bench, Step, go_on, replay
from shared.events import PainReported
from shared.events.codec import encode
from shared.outcomes import Outcomes
from shared.replaying import QUEUE_PAGE, QueueKey
from tests.shared.delivery.books import GROUP, JOINING, SAFETY, Books
from tests.shared.delivery.conftest import RED_FLAG
from tests.shared.delivery.operating import OLD_PAIN, old_pain, readers, upcast_pain
from tests.shared.delivery.probe import MEMBERS, pain, paused


def runner(books: Books, **options: Any) -> Runner:
    request = Request(**{"action": "replay", "who": "operator", "why": "a test", **options})
    return Runner(service="probe", database=books.pool, readers=books.readers, clock=WallClock(), request=request)


async def queue_of(books: Books, member: UUID, *scores: int) -> None:
    """A queue of one that failed and these behind it; what made it fail is mended."""
    await books.take(*(books.write(pain(member, score)) for score in (9, *scores)), isolated=True)
    await books.fix()


async def leave_in_the_middle(books: Books, member: UUID) -> None:
    """A queue of four, of which a replay has taken the first two."""
    await queue_of(books, member, 1, 2, 3)
    (head, *_) = await books.held()
    one = runner(books, held_id=head["held_id"], rate=2.0)
    await one._patiently(partial(one._begin, head["held_id"]))


async def test_what_a_rate_leaves_in_the_middle_is_the_operators_for_a_minute(books: Books) -> None:
    await leave_in_the_middle(books, uuid4())
    (rest, *_) = await books.held()
    assert rest["reason"] == "long-queue"
    assert rest["expires_at"] > wall_now() + REST_AFTER / 2


async def test_what_a_replay_left_in_the_middle_is_discarded_by_nobody_who_does_not_ask_for_it(books: Books) -> None:
    member = uuid4()
    await leave_in_the_middle(books, member)
    left = await books.held()
    assert [done async for done in runner(books, action="discard").run()] == []
    assert await books.held() == left
    assert not [done.failed async for done in runner(books).run() if done.failed]
    assert await books.effects(member) == [9, 1, 2, 3]


@pytest.mark.parametrize("failures", [1, TRIES_MAX])
async def test_a_replay_that_loses_the_database_tries_again_a_few_times(
    books: Books, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """A restart of it ends no replay of thousands; what fails each time is told."""
    member, tried = uuid4(), list[int]()
    await queue_of(books, member, 1)
    (head, _) = await books.held()

    async def lose_the_database_at_first(connection: Connection, held_id: int, bench: Bench) -> Step:
        tried.append(held_id)
        if len(tried) <= failures:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return await replay(connection, held_id, bench)

    monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=no_pause))
    monkeypatch.setattr(running, "replay", lose_the_database_at_first)
    (done,) = [one async for one in runner(books, held_id=head["held_id"]).run()]
    if failures < TRIES_MAX:
        assert (done.step.taken, done.failed) == (2, False)
        assert await books.effects(member) == [9, 1]
    else:
        assert (done.step.result, done.step.taken, done.failed) == ("kept", 0, True)
        assert len(tried) == TRIES_MAX


async def test_a_database_that_stays_away_ends_the_replay(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        await books.take(books.write(pain(uuid4(), 9)), isolated=True)
    monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=no_pause))
    one, tried = runner(books), list[int]()

    class Away:
        def acquire(self, **_: object) -> Any:
            raise ConnectionRefusedError

    async def lose_the_database(connection: Connection, held_id: int, bench: Bench) -> Step:
        tried.append(held_id)
        one.database = cast(Any, Away())
        raise ConnectionResetError

    monkeypatch.setattr(running, "replay", lose_the_database)
    with pytest.raises(ConnectionRefusedError):
        [_ async for _ in one.run()]
    assert len(tried) == 1, "nobody asks for the others"


def failing_for(books: Books, member: UUID, error: Exception) -> None:
    """Whatever this member's handler meets."""
    run = books.subscription(GROUP).run

    async def fail(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        if any(event.subject == member for event in events):
            raise error
        return await run(connection, events, now=now)

    reader = replace(books.readers[GROUP], subscription=replace(books.subscription(GROUP), run=fail))
    books.readers = {**books.readers, GROUP: reader}


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("action", ["replay", "discard"])
async def test_one_queue_that_keeps_failing_is_told_and_costs_the_others_nothing(
    books: Books, monkeypatch: pytest.MonkeyPatch, action: str, dry_run: bool
) -> None:
    """As where a row of its member is of the next release."""
    bad, good = uuid4(), uuid4()
    for member in (bad, good):
        await books.take(*(books.write(pain(member, score)) for score in (9, 1)), isolated=True)
    await books.fix()
    failing_for(books, bad, FromNextRelease())
    monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=no_pause))
    first, second = [one async for one in runner(books, action=action, dry_run=dry_run).run()]
    assert (first.failed, first.step.result, first.step.taken) == (True, "kept", 0)
    assert first.error is not None
    assert "FromNextRelease" in first.error
    assert first.answer is not None
    assert first.error in first.answer
    assert (second.failed, second.error) == (False, None)
    assert second.step.taken == (2 if action == "replay" else 1)
    effects = [9, 1] if action == "replay" else [1]
    assert await books.effects(good) == ([] if dry_run else effects)
    assert [row["state"] for row in await books.held() if row["member_id"] == bad] == ["dead", "parked"]


async def test_a_queue_that_fails_behind_its_head_says_so_and_keeps_what_was_taken(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, pages = uuid4(), list[int]()
    await queue_of(books, member, 1, 2, 3)
    (head, *_) = await books.held()

    async def fail_at_the_second(connection: Connection, queue: QueueKey, bench: Bench) -> Step:
        pages.append(bench.page or 0)
        raise FromNextRelease

    monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=no_pause))
    monkeypatch.setattr(running, "go_on", fail_at_the_second)
    (done,) = [one async for one in runner(books, held_id=head["held_id"], rate=2.0).run()]
    assert (done.failed, done.step.result, done.step.taken) == (True, "done", 2)
    assert done.answer is not None
    assert "goes on with the rest" in done.answer
    assert await books.effects(member) == [9, 1]
    assert pages == [2, *[1] * (TRIES_MAX - 1)], "what takes too long is not tried again as it is"


async def no_pause(_: float) -> None:
    pass


async def test_a_rate_is_kept_over_all_pages(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    member, at = uuid4(), [0.0]
    await queue_of(books, member, *range(1, 6))

    async def sleep(seconds: float) -> None:
        at[0] += seconds

    monkeypatch.setattr(running, "monotonic", lambda: at[0])
    monkeypatch.setattr(running, "asyncio", SimpleNamespace(sleep=sleep))
    (head, *_) = await books.held()
    one = runner(books, held_id=head["held_id"], rate=2.0)
    one._began = 0.0
    assert [done.failed async for done in one.run()] == [False]
    assert await books.effects(member) == [9, 1, 2, 3, 4, 5]
    kept = await books.pool.fetch("select details from delivery.operations order by operation_id")
    assert [row["details"]["taken"] for row in kept] == [2, 2, 2], "each page is written down"
    assert at[0] == pytest.approx(3.0), "six events at two a second"


async def test_a_discard_is_written_down_though_nothing_stood_behind_it(books: Books) -> None:
    await books.take(books.write(pain(uuid4(), 1), key=uuid4()))
    (held,) = await books.held()
    [_ async for _ in runner(books, action="discard", held_id=held["held_id"]).run()]
    (kept,) = await books.pool.fetch("select action, reason, details from delivery.operations")
    assert (kept["action"], kept["reason"]) == ("dead-letters discard", "a test")
    assert (kept["details"]["held_id"], kept["details"]["result"]) == (held["held_id"], "discarded")


async def test_what_is_held_after_an_operator_began_is_left_alone(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "IDS_PAGE", 1)
    await books.take(books.write(pain(uuid4(), 1), key=uuid4()))
    done = []
    async for one in runner(books, action="discard").run():
        done.append(one)
        await books.take(books.write(pain(uuid4(), 1), key=uuid4()))
    assert len(done) == 1
    assert len(await books.held()) == 1


async def test_a_dry_run_that_is_cut_short_changes_nothing_either(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "DRY_RUN_S", -1.0)
    member = uuid4()
    await queue_of(books, member, 1, 2, 3)
    before = await books.held()
    (done,) = [one async for one in runner(books, held_id=before[0]["held_id"], rate=2.0, dry_run=True).run()]
    assert (done.more, done.step.taken) == (True, 2)
    assert await books.held() == before
    assert await books.effects(member) == []


async def test_two_operators_at_a_dead_letter_of_a_safety_group_take_effect_once(books: Books) -> None:
    """Nobody holds a member for it: the second waits for the row, and finds it gone."""
    raw = orjson.loads(old_pain(uuid4(), 2))
    raw["data"]["findings"] = list(RED_FLAG)
    await books.take(books.write_raw(orjson.dumps(raw), key=UUID(raw["subject"])), group=SAFETY)
    (row,) = await books.held(SAFETY)
    bench = Bench(service="probe", now=wall_now(), readers=readers({OLD_PAIN: upcast_pain}))

    async def replay_too() -> Step:
        async with books.transaction() as connection:
            return await replay(connection, row["held_id"], bench)

    async with books.transaction() as connection:
        first = await replay(connection, row["held_id"], bench)
        second = asyncio.create_task(replay_too())
        await books.somebody_waits()
    assert ([fate.outcome for fate in first.fates], (await second).result) == (["applied"], "gone")
    assert len(await books.published()) == 1


async def test_who_takes_the_next_page_waits_for_the_member_and_takes_nothing_twice(books: Books) -> None:
    member = uuid4()
    await queue_of(books, member, 1, 2)
    (head, *_) = await books.held()
    bench = Bench(readers=books.readers, service="probe", now=wall_now(), page=1)
    async with books.transaction() as connection:
        step = await replay(connection, head["held_id"], bench)
    rest = step.rest
    assert rest is not None

    async def take_the_rest() -> Step:
        async with books.transaction() as connection:
            return await go_on(connection, rest, replace(bench, page=QUEUE_PAGE))

    async with books.transaction() as connection:  # a consumer, which goes on with what is left of the queue
        await books.take_in(connection, books.write(pain(member, 3)))
        going_on = asyncio.create_task(take_the_rest())
        await books.somebody_waits()
    assert (await going_on).taken == 0
    assert await books.effects(member) == [9, 1, 2, 3]
    assert await books.held() == []


async def replay_alone(books: Books, group: str = GROUP) -> Step:
    (alone,) = await books.held(group)
    async with books.transaction() as connection:
        bench = Bench(readers=books.readers, service="probe", now=wall_now())
        return await replay(connection, alone["held_id"], bench)


async def test_what_waits_for_one_that_stood_alone_is_taken_with_its_replay(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 8)))
    await books.take(books.write(paused(member), topic=MEMBERS, key=uuid4()), group=JOINING)
    step = await replay_alone(books, JOINING)
    assert (step.result, step.published) == ("done", 1)
    assert await books.effects(member) == [8]
    assert await books.held() == []


@pytest.mark.parametrize("way", ["in its queue", "alone"])
async def test_one_of_a_type_that_its_group_does_not_react_to_is_ignored_once_it_can_be_read(
    books: Books, way: str
) -> None:
    event = EXAMPLES["org.careloop.session.completed.v1"]
    older = orjson.loads(encode(event)) | {"type": OLD_PAIN}
    record = books.write_raw(orjson.dumps(older), key=event.subject)
    await books.take(record if way == "in its queue" else replace(record, key=None))
    (reader, given) = (readers({OLD_PAIN: lambda raw: {**raw, "type": event.type}})[GROUP], list[Any]())

    async def note(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        given.extend(events)
        return Outcomes()

    subscription = replace(reader.subscription, run=note, events=(PainReported,))
    books.readers = {**books.readers, GROUP: replace(reader, subscription=subscription)}
    step = await replay_alone(books)
    assert [fate.outcome for fate in step.fates] == ["ignored"]
    assert given == []
    assert await books.held() == []
