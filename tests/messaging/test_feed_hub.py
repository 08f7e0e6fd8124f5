"""The hub looks for all windows at once, and each of them still gets all it may see, in order, once."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging.api import feed as feed_module
from services.messaging.api.feed import FeedHub
from services.messaging.domain.feed import FeedEntry, FeedLook, join_looks
from services.messaging.domain.people import ONCALL_AUDIENCE
from services.messaging.store.feed import look_at_feed, look_at_saved, save_feed_entries, saving_feed_entries
from shared.outcomes import Answer
from shared.writing import write
from tests.fixtures.eventually import eventually
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, MEMBER, NOW, PT, STRANGER
from tests.messaging.test_feed import entry, head, read

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def told(number: int) -> FeedEntry:
    return FeedEntry(number=number, kind="alert", change="raised", member_id=A, subject_id=B, entered_at=NOW)


def look(after: int, end: int, **numbers: Sequence[int]) -> FeedLook:
    audiences: Mapping[str, UUID] = {"a": A, "b": B}
    return FeedLook(
        after=after, end=end, head=end, entries={audiences[n]: [told(x) for x in xs] for n, xs in numbers.items()}
    )


def test_a_look_tells_only_those_whom_it_reaches() -> None:
    one = look(5, 9, a=[6, 8], b=[6, 9])
    assert one.since(4, [A]) is None, "who is further behind reads the table"
    assert one.since(5, [C]) is None, "it was not asked for them"
    assert one.since(5, [A, C]) is None
    assert [e.number for e in one.since(5, [A, B]) or ()] == [6, 8, 9], "once each"
    assert [e.number for e in one.since(6, [A]) or ()] == [8], "what was read before is left out"
    assert one.since(9, [A]) == []
    assert one.since(10, [A]) is None, "who is ahead of it reads the table"


@given(
    feed=st.lists(st.sets(st.sampled_from((A, B))), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=6),
    audiences=st.sampled_from(([A], [B], [A, B])),
    start=st.integers(0, 20),
)
def test_looks_one_after_the_other_tell_everything_once(
    feed: list[set[UUID]], cuts: list[int], audiences: list[UUID], start: int
) -> None:
    """From wherever a reader begins, as long as each look begins where the one before it ended."""
    ends = sorted({min(cut, len(feed)) for cut in cuts} | {len(feed)})
    position, got, after = min(start, len(feed)), list[int](), 0
    begin = position
    for end in ends:
        found = FeedLook(
            after=after,
            end=end,
            head=len(feed),
            entries={a: [told(n) for n in range(after + 1, end + 1) if a in feed[n - 1]] for a in (A, B)},
        ).since(position, audiences)
        after = end
        if position > end:
            assert found is None
            continue
        assert found is not None
        got += [one.number for one in found]
        position = end
    assert got == [n for n in range(begin + 1, len(feed) + 1) if feed[n - 1] & set(audiences)]


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=6), gone=st.integers(0, 12), data=st.data())
def test_what_was_saved_is_shown_whole_or_looked_for(sizes: list[int], gone: int, data: st.DataObject) -> None:
    """Given what several transactions entered, told in any order and perhaps not all of it, then together they are the
    look at the table, or none."""
    ends = [5 + sum(sizes[: number + 1]) for number in range(len(sizes))]
    saved = [look(end - size, end, a=range(end - size + 1, end + 1)) for end, size in zip(ends, sizes, strict=True)]
    known = data.draw(st.permutations([one for number, one in enumerate(saved) if number != gone]))
    joined = join_looks(known, after=5, audiences=[A, B])
    if gone < len(saved) - 1:
        assert joined is None
    else:
        end = max((one.end for one in known), default=5)
        assert joined == look(5, end, a=list(range(6, end + 1)), b=[])
    if saved[0] in known:
        assert join_looks(known, after=4, audiences=[A]) is None
        assert join_looks(known, after=6, audiences=[A]) is None, "shown before: the table tells"


async def test_what_a_transaction_saved_is_what_a_look_finds(clinic: Clinic) -> None:
    """Given entries for a team, for who is on call, for somebody else and for nobody, then what the statement answers
    is what a look finds once it is committed."""
    start = (await head(clinic)).last_number
    new = [entry(), entry(oncall=True), entry(also=(STRANGER.practitioner_id,)), entry(member_id=UUID(int=99))]
    async with clinic.transaction() as connection:
        saved = look_at_saved(await write(connection, [saving_feed_entries(new, now=NOW)]))
        nobody = look_at_saved(await write(connection, [saving_feed_entries([entry(member_id=UUID(int=99))], now=NOW)]))
    assert (nobody.after, nobody.end, nobody.entries) == (start + 4, start + 5, {})
    audiences = [COACH.practitioner_id, PT.practitioner_id, ONCALL_AUDIENCE, STRANGER.practitioner_id]
    async with clinic.database.acquire() as connection:
        found = await look_at_feed(connection, audiences=audiences, after=start, limit=100)
    assert join_looks([nobody, saved], after=start, audiences=audiences) == found
    assert sum(map(len, found.entries.values())) == 3 + 3 + 2


async def test_a_look_brings_what_each_audience_may_see_and_nothing_older(clinic: Clinic) -> None:
    start = (await head(clinic)).last_number
    async with clinic.transaction() as connection:
        new = [entry(), entry(oncall=True), entry(also=(STRANGER.practitioner_id,))]
        await save_feed_entries(connection, new, now=NOW)
    audiences = [COACH.practitioner_id, ONCALL_AUDIENCE, STRANGER.practitioner_id, C]
    async with clinic.database.acquire() as connection:
        found = await look_at_feed(connection, audiences=audiences, after=start, limit=100)
        nobody = await look_at_feed(connection, audiences=[], after=start, limit=100)
        full = await look_at_feed(connection, audiences=audiences, after=start, limit=3)
        none = await look_at_feed(connection, audiences=audiences, after=found.end, limit=100)
    assert (found.after, found.end) == (start, start + 3)
    numbers = {audience: [e.number - start for e in entries] for audience, entries in found.entries.items()}
    assert list(numbers.values()) == [[1, 2, 3], [2], [3], []]
    assert found.entries[COACH.practitioner_id] == await read(clinic, COACH.practitioner_id, after=start)
    assert (nobody.end, nobody.entries) == (start + 3, {})
    assert (full.end, full.head) == (start + 1, start + 3), "a number is brought with all of its rows or not at all"
    assert [e.number - start for e in full.since(start, audiences) or ()] == [1]
    assert none.since(found.end, audiences) == []


@asynccontextmanager
async def running_hub(clinic: Clinic) -> Any:
    hub = FeedHub(connections_max=8)
    service: Any = SimpleNamespace(
        database=clinic.database, requests=clinic.database, health=SimpleNamespace(stopping=False)
    )
    watching = asyncio.create_task(hub._watch(service))
    try:
        yield hub, service
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.parametrize("look_max", [2_000, 8])
async def test_every_window_gets_everything_in_order_once_whatever_it_misses(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, look_max: int
) -> None:
    """Given writers that commit all the time and windows that come, go slowly or begin anew, then each has got what
    the table holds for it."""
    monkeypatch.setattr(feed_module, "LOOK_MAX", look_max)
    chance = random.Random(7)
    start = (await head(clinic)).last_number
    got: dict[int, list[int]] = {}

    async def enter(hub: FeedHub) -> None:
        for _ in range(40):
            many = [entry(oncall=chance.random() < 0.3) for _ in range(chance.randrange(1, 4))]
            async with clinic.transaction(MEMBER) as connection:
                answer = await write(connection, [saving_feed_entries(many, now=NOW)])
            await asyncio.sleep(0.005 * chance.randrange(2))  # another may be told first
            hub.wake(chance.choice((answer, answer, None)))

    async def watch(hub: FeedHub, service: Any, number: int, *, oncall: bool, pause_s: float) -> None:
        reader = COACH.practitioner_id if number % 2 else PT.practitioner_id
        audiences = [reader, *([ONCALL_AUDIENCE] if oncall else [])]
        got[number] = []
        async for event in hub._counted(service, reader, audiences, start, float("inf")):
            if event.event == "change":
                got[number].append(int(cast(str, event.id)))
                await asyncio.sleep(pause_s * chance.random())

    async with running_hub(clinic) as (hub, service):
        writers = [asyncio.create_task(enter(hub)) for _ in range(2)]
        windows = []
        for number in range(6):
            pace = watch(hub, service, number, oncall=number % 3 == 0, pause_s=0.01 if number > 3 else 0)
            windows.append(asyncio.create_task(pace))
            await asyncio.sleep(0.02)
        await asyncio.gather(*writers)
        expected = [e.number for e in await read(clinic, COACH.practitioner_id, after=start)]
        assert len(expected) > 80
        await eventually(lambda: all(numbers[-1:] == expected[-1:] for numbers in got.values()), within=20)
        for window in windows:
            window.cancel()
        await asyncio.wait(windows)
    assert all(numbers == expected for numbers in got.values())


async def test_a_database_that_was_set_back_leaves_no_window_behind(clinic: Clinic) -> None:
    """Given windows that have seen what is no longer there, when the feed ends earlier than it did, then those are told
    to begin anew, and they and who comes then get what is written from there on."""
    told: dict[str, list[tuple[str, int]]] = {"before": [], "after": []}

    async def write() -> int:
        async with clinic.transaction(MEMBER) as connection:
            await save_feed_entries(connection, [entry()], now=NOW)
        return (await head(clinic)).last_number

    async def watch(hub: FeedHub, service: Any, name: str, position: int | None) -> None:
        async for event in hub._counted(
            service, COACH.practitioner_id, [COACH.practitioner_id], position, float("inf")
        ):
            told[name].append((cast(str, event.event), int(cast(str, event.id))))

    async with running_hub(clinic) as (hub, service):
        start = (await head(clinic)).last_number
        windows = [asyncio.create_task(watch(hub, service, "before", start))]
        for _ in range(3):
            last = await write()
            hub.wake()
        await eventually(lambda: told["before"][-1:] == [("change", last)], within=20)
        async with clinic.transaction(MEMBER) as connection:
            await connection.execute("delete from feed where number > $1", last - 2)
            await connection.execute("update feed_head set last_number = $1", last - 2)
        windows.append(asyncio.create_task(watch(hub, service, "after", None)))
        await eventually(lambda: told["after"] == [("ready", last - 2)], within=20)
        again = await write()
        hub.wake()
        assert again == last - 1
        await eventually(lambda: told["after"][-1] == ("change", again), within=20)
        await eventually(lambda: told["before"][-1] in (("reset", again), ("change", again)), within=20)
        more = await write()
        hub.wake()
        await eventually(lambda: [of[-1] for of in told.values()] == [("change", more)] * 2, within=20)
        assert "reset" in [kind for kind, _ in told["before"]]
        assert "reset" not in [kind for kind, _ in told["after"]]
        for window in windows:
            window.cancel()
        await asyncio.wait(windows)


async def test_what_this_process_wrote_is_shown_without_a_look(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a hub that knows where the feed ends, when this process enters something, then a window gets it although
    the table is not read; when something was entered that the hub was not told of, then it reads the table."""
    monkeypatch.setattr(feed_module, "POLL_S", 3600.0)
    looks: list[FeedLook] = []

    async def note(*asked: Any, **named: Any) -> FeedLook:
        looks.append(await look_at_feed(*asked, **named))
        return looks[-1]

    got: list[int] = []

    async def watch(hub: FeedHub, service: Any) -> None:
        async for event in hub._counted(service, COACH.practitioner_id, [COACH.practitioner_id], None, float("inf")):
            if event.event == "change":
                got.append(int(cast(str, event.id)))

    async def enter() -> Answer:
        async with clinic.transaction(MEMBER) as connection:
            return await write(connection, [saving_feed_entries([entry()], now=NOW)])

    async with running_hub(clinic) as (hub, service):
        window = asyncio.create_task(watch(hub, service))
        hub.wake()
        await eventually(lambda: hub._end >= 0 and hub._next is not None, within=20)
        monkeypatch.setattr(feed_module, "look_at_feed", note)
        start = hub._end
        for number in (1, 2):
            hub.wake(await enter())
            hub.wake(())  # a transaction that entered nothing
            await eventually(lambda: len(got) == number, within=20)  # noqa: B023 - asked within this round
        assert got == [start + 1, start + 2]
        assert looks == []
        await enter()
        hub.wake(await enter())
        await eventually(lambda: got == [start + number for number in (1, 2, 3, 4)], within=20)
        assert len(looks) == 1
        window.cancel()
        await asyncio.wait([window])


async def test_the_first_look_does_not_read_the_whole_feed(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a feed of weeks and a window that is there before the hub has looked, when it looks, then it knows the end
    and has read nothing that is older."""
    async with clinic.transaction(MEMBER) as connection:
        await save_feed_entries(connection, [entry() for _ in range(20)], now=NOW)
    looks: list[FeedLook] = []

    async def note(*asked: Any, **named: Any) -> FeedLook:
        looks.append(await look_at_feed(*asked, **named))
        return looks[-1]

    monkeypatch.setattr(feed_module, "look_at_feed", note)
    hub = FeedHub(connections_max=8)
    hub._audiences.update([COACH.practitioner_id])
    service: Any = SimpleNamespace(database=clinic.database)
    watching = asyncio.create_task(hub._watch(service))
    hub.wake()
    await eventually(lambda: looks, within=20)
    watching.cancel()
    await asyncio.wait([watching])
    assert looks[0].end == looks[0].head == (await head(clinic)).last_number
    assert looks[0].entries == {}


async def test_what_is_entered_while_a_window_reads_the_table_is_shown_to_it(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a window that reads the table, when the hub shows something that came behind that reading, then it does
    not wait for the next look."""
    monkeypatch.setattr(feed_module, "POLL_S", 3600.0)
    got: list[int] = []
    entered: list[int] = []

    async def enter() -> Any:
        async with clinic.transaction(MEMBER) as connection:
            return await write(connection, [saving_feed_entries([entry()], now=NOW)])

    async def watch(hub: Any, service: Any, after: int) -> None:
        async for event in hub._counted(service, COACH.practitioner_id, [COACH.practitioner_id], after, float("inf")):
            if event.event == "change":
                got.append(int(cast(str, event.id)))

    async with running_hub(clinic) as (hub, service):
        hub.wake()
        await eventually(lambda: hub._end >= 0, within=20)
        start = hub._end

        async def read_slowly(*asked: Any, **named: Any) -> Any:
            found = await look_at_feed(*asked, **named)
            if not entered:  # once: behind this reading, before its window goes on
                entered.append(1)
                hub.wake(await enter())
                await eventually(lambda: hub._end == start + 1, within=20)
            return found

        monkeypatch.setattr(feed_module, "look_at_feed", read_slowly)
        window = asyncio.create_task(watch(hub, service, start))
        await eventually(lambda: got == [start + 1], within=5)
        window.cancel()
        await asyncio.wait([window])


async def test_for_a_window_that_is_gone_nobody_looks_any_more(clinic: Clinic) -> None:
    async with running_hub(clinic) as (hub, service):
        stream = hub._counted(service, COACH.practitioner_id, [COACH.practitioner_id], None, float("inf"))
        assert (await anext(stream)).event == "ready"
        assert list(hub._audiences) == [COACH.practitioner_id]
        await cast(Any, stream).aclose()
        assert list(hub._audiences) == []
