"""A lane takes records in log order without a hole that nobody has judged."""

from dataclasses import dataclass
from typing import Any, cast

from aiokafka import TopicPartition

from shared.lanes import Lane


@dataclass
class Logged:
    offset: int


def records(*offsets: int) -> Any:
    return cast(Any, [Logged(offset) for offset in offsets])


def lane(start: int = 5) -> Lane:
    return Lane(TopicPartition("t", 0), start=start, cautious=False)


async def test_a_gap_is_fetched_again_then_judged_then_taken() -> None:
    """A batch polled before the seek, a log that was truncated and a transaction's marker all look alike."""
    one = lane()
    assert one.offer(records(8, 9)) == "again"
    assert one.offer(records(8, 9)) == "ask", "the same after a fresh fetch: the log is asked after it"
    assert (one.end, one.waiting) == (5, 0)
    assert one.offer(records(8, 9), gap_judged=True) == "taken"
    chunk = await one.next_chunk(10)
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
