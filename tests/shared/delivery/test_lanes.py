"""A lane takes records in log order without a hole that nobody has judged."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from shared.lanes import CHUNK_BYTES, MANY, Lane
from shared.subscriptions import Patience, nothing

LONG_S = 3600.0


@dataclass
class Logged:
    offset: int
    value: bytes | None = b"some"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def records(*offsets: int) -> Any:
    return cast(Any, [Logged(offset) for offset in offsets])


def is_calm(value: bytes) -> bool:
    return b"calm" in value


def lane(start: int = 5, *, patient: Patience = nothing) -> Lane:
    return Lane(TopicPartition("t", 0), start=start, cautious=False, patient=patient)


async def offsets_taken(one: Lane, *, patience_s: float = LONG_S, hurried: bool = True) -> list[int]:
    chunk = await asyncio.wait_for(one.next_chunk(500, patience=lambda: patience_s), 20)
    assert chunk.hurried == hurried
    return [record.offset for record in chunk.records]


async def is_kept_waiting(one: Lane) -> bool:
    """Whether nothing is taken although all that could happen by itself has."""
    taking = asyncio.create_task(one.next_chunk(500, patience=lambda: LONG_S))
    for _ in range(10):
        await asyncio.sleep(0)
    waits = not taking.done()
    taking.cancel()
    await asyncio.wait([taking])
    return waits


async def test_a_gap_is_fetched_again_then_judged_then_taken() -> None:
    """A batch polled before the seek, a log that was truncated and a transaction's marker all look alike."""
    one = lane()
    assert one.offer(records(8, 9)) == "again"
    assert one.offer(records(8, 9)) == "ask", "the same after a fresh fetch: the log is asked after it"
    assert (one.end, one.waiting) == (5, 0)
    assert one.offer(records(8, 9), gap_judged=True) == "taken"
    chunk = await one.next_chunk(10, patience=lambda: 0.0)
    assert (chunk.base, chunk.end, [record.offset for record in chunk.records]) == (5, 10, [8, 9])


async def test_what_was_polled_before_the_seek_is_not_taken_for_a_gap() -> None:
    one = lane()
    assert one.offer(records(40, 41)) == "again"
    assert one.offer(records(5, 6)) == "taken"
    assert one.offer(records(40, 41)) == "again", "the doubt is over: it begins anew"
    assert one.offer(records(3, 4)) == "taken", "what was taken before is dropped"
    assert one.end == 7


async def test_another_gap_begins_the_doubt_again() -> None:
    one = lane()
    assert one.offer(records(8)) == "again"
    assert one.offer(records(9)) == "again"
    assert one.offer(records(9)) == "ask"


async def test_what_may_wait_does_for_as_long_as_patience_says() -> None:
    one = lane(0, patient=is_calm)
    one.offer([*records(0)])
    assert await offsets_taken(one) == [0], "not recognised: it may not wait"
    one.offer(cast(Any, [Logged(1, b"a calm one")]))
    assert await is_kept_waiting(one)
    one.offer(cast(Any, [Logged(2, b"calm too")]))
    assert await offsets_taken(one, patience_s=0.01, hurried=False) == [1, 2], (
        "nothing is lost to who waited and gave up"
    )
    one.offer(cast(Any, [Logged(3, b"calm")]))
    assert await offsets_taken(one, patience_s=0.0, hurried=False) == [3], "where little comes nobody waits"


@pytest.mark.parametrize("hurried", [Logged(2, b"help"), Logged(2, None)])
async def test_what_may_not_wait_takes_along_what_is_before_it_and_leaves_what_is_behind_it(hurried: Logged) -> None:
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(0, b"calm"), Logged(1, b"calm")]))
    taking = asyncio.create_task(offsets_taken(one))
    await asyncio.sleep(0)
    one.offer(cast(Any, [hurried, Logged(3, b"calm")]))
    assert await taking == [0, 1, 2]
    assert one.waiting == 1
    one.offer(cast(Any, [Logged(4, b"calm")]))
    assert await is_kept_waiting(one), "the hurry is over with who was in one"
    assert await offsets_taken(one, patience_s=0.0, hurried=False) == [3, 4]


async def test_what_may_not_wait_is_in_a_hurry_until_it_is_taken() -> None:
    """Not only until a first chunk has taken what is before it."""
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(0, b"calm"), Logged(1, b"calm"), Logged(2, b"help")]))
    first = await one.next_chunk(2, patience=lambda: LONG_S)
    assert [record.offset for record in first.records] == [0, 1]
    assert await offsets_taken(one) == [2]


async def test_two_that_may_not_wait_are_taken_together() -> None:
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(0, b"help"), Logged(1, b"calm")]))
    one.offer(cast(Any, [Logged(2, b"help"), Logged(3, b"calm")]))
    assert await offsets_taken(one) == [0, 1, 2]
    one.offer(cast(Any, [Logged(offset, b"calm") for offset in range(4, 4 + MANY)]))
    assert len(await offsets_taken(one)) == MANY + 1, "who is behind leaves nothing"


async def test_many_are_company_enough() -> None:
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(offset, b"calm") for offset in range(MANY - 1)]))
    assert await is_kept_waiting(one)
    one.offer(cast(Any, [Logged(MANY - 1, b"calm")]))
    assert len(await offsets_taken(one)) == MANY


async def test_a_small_chunk_that_is_full_waits_for_nobody() -> None:
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(offset, b"calm") for offset in range(3)]))
    sizes = [len((await asyncio.wait_for(one.next_chunk(1, patience=lambda: LONG_S), 20)).records) for _ in range(3)]
    assert sizes == [1, 1, 1]


async def test_who_is_behind_does_not_wait_between_chunks() -> None:
    one = lane(0, patient=is_calm)
    one.offer(cast(Any, [Logged(offset, b"calm") for offset in range(2 * MANY)]))
    taken = [await asyncio.wait_for(one.next_chunk(MANY // 2, patience=lambda: LONG_S), 20) for _ in range(4)]
    assert [len(chunk.records) for chunk in taken] == [MANY // 2] * 4


@pytest.mark.parametrize(
    ("offset", "value", "missed"), [(7, b"a flag", True), (6, b"a flag", False), (7, b"calm", False)]
)
def test_a_lane_misses_what_may_not_wait_from_its_end_on(offset: int, value: bytes, missed: bool) -> None:
    one = lane(7, patient=is_calm)
    assert one.misses(cast(Any, [Logged(offset, value)])) is missed


HALF = b"x" * (CHUNK_BYTES // 2)


async def test_a_chunk_has_no_more_bytes_than_it_may_but_one_record_whatever_it_has() -> None:
    one = lane(0)
    one.offer([Logged(0, HALF), Logged(1, HALF), Logged(2, b"some"), Logged(3, HALF * 3), Logged(4, None)])
    assert [await offsets_taken(one) for _ in range(4)] == [[0, 1], [2], [3], [4]]
    assert one.bytes == 0


@pytest.mark.parametrize(
    "large",
    [
        Logged(0, HALF),
        Logged(0, None, key=HALF),
        Logged(0, None, headers=(("name", HALF), ("without", None))),
        Logged(0, None, headers=(("", None),) * (len(HALF) // 64)),
    ],
    ids=["value", "key", "headers", "empty headers"],
)
async def test_a_lane_counts_all_that_a_record_brings(large: Logged) -> None:
    one = lane(0)
    one.offer([large, *records(1)])
    assert one.holds(9, len(HALF))
    assert await offsets_taken(one) == [0, 1]
    assert not one.holds(1, 1)


async def test_as_many_bytes_as_a_chunk_may_have_are_company_enough() -> None:
    one = lane(0, patient=is_calm)
    one.offer([Logged(0, b"calm" + HALF)])
    assert await is_kept_waiting(one)
    one.offer([Logged(1, b"calm" + HALF)])
    assert await offsets_taken(one) == [0]
