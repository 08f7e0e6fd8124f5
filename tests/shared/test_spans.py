"""Given a consumer whose answers wait behind its fetches, when the spans of partitions are loaded, then both ends are
asked for at once, and a partition that nobody leads hides no other."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import LeaderNotAvailableError

from shared.kafka import load_spans

LED, LEADERLESS = TopicPartition("t", 0), TopicPartition("t", 1)


class OneFetchBefore:
    """Answers when both ends of the same partitions have been asked for: the fetch before them has ended by then."""

    def __init__(self) -> None:
        self._asked: dict[tuple[TopicPartition, ...], set[str]] = {}
        self._both: dict[tuple[TopicPartition, ...], asyncio.Event] = {}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._answer(partitions, "first", 3)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._answer(partitions, "end", 8)

    async def _answer(self, partitions: Sequence[TopicPartition], which: str, offset: int) -> dict[TopicPartition, int]:
        if LEADERLESS in partitions:
            raise LeaderNotAvailableError
        asked, both = tuple(partitions), self._both.setdefault(tuple(partitions), asyncio.Event())
        self._asked.setdefault(asked, set()).add(which)
        if self._asked[asked] == {"first", "end"}:
            both.set()
        await both.wait()
        return dict.fromkeys(partitions, offset)


async def test_both_ends_are_asked_for_at_once() -> None:
    consumer = cast(AIOKafkaConsumer, cast(Any, OneFetchBefore()))
    assert await load_spans(consumer, [LED]) == {LED: (3, 8)}


async def test_a_partition_that_nobody_leads_hides_no_other() -> None:
    consumer = cast(AIOKafkaConsumer, cast(Any, OneFetchBefore()))
    assert await load_spans(consumer, [LED, LEADERLESS]) == {LED: (3, 8)}
