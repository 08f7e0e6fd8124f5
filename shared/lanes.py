"""A partition's queue between the poll and the transaction: bounded, in log order, with the base of every chunk."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka import ConsumerRecord, TopicPartition

from shared.parking import Full


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Undecoded records of one partition. `base` is the end of the chunk before, or the position sought."""

    base: int
    end: int
    records: Sequence[ConsumerRecord]


Offered = Literal["taken", "again", "ask"]
"""What became of a batch: taken; to be fetched again from the lane's end; to be judged by what the log still holds."""


class Lane:
    """Records of one assigned partition that wait for their transaction."""

    def __init__(self, partition: TopicPartition, *, start: int, cautious: bool) -> None:
        self.partition = partition
        self.start = start
        """The position sought."""
        self.end = start
        """End of the last record accepted."""
        self.taken = start
        """End of the last chunk committed."""
        self.cautious = cautious
        """Take records one by one, counting attempts: several starts made no progress here."""
        self.waiting = 0
        """Records queued."""
        self.retrying_since: float | None = None
        """Machine time since which the chunk in hand fails, for readiness."""
        self.full: Full | None = None
        """What is full, where the next record would have to be held and there is no room for it."""
        self._doubted: int | None = None
        """First offset of records that do not continue this lane."""
        self._chunks: deque[RawChunk] = deque()
        self._filled = asyncio.Event()

    def offer(self, records: list[ConsumerRecord], *, gap_judged: bool = False) -> Offered:
        """Accept records that continue this lane.

        Offsets may have gaps (transactions), but a batch polled before the seek looks just the same, and so does one
        after retention overtook this lane. So a gap counts only when a fresh fetch from the lane's end shows the same
        first record, and the log, asked after that fetch, still holds the lane's end (`gap_judged`).
        """
        fresh = [record for record in records if record.offset >= self.end]
        if not fresh:
            return "taken"
        first = fresh[0].offset
        if first > self.end and not gap_judged:
            seen_before, self._doubted = self._doubted == first, first
            return "ask" if seen_before else "again"
        self._doubted = None
        end = fresh[-1].offset + 1
        self._chunks.append(RawChunk(self.end, end, fresh))
        self.end = end
        self.waiting += len(fresh)
        self._filled.set()
        return "taken"

    async def next_chunk(self, limit: int) -> RawChunk:
        """The next records, at most `limit`: few when little waits (latency), many when behind (throughput)."""
        while not self._chunks:
            self._filled.clear()
            await self._filled.wait()
        first = self._chunks.popleft()
        records, end = list(first.records), first.end
        while self._chunks and len(records) < limit:
            following = self._chunks.popleft()
            records += following.records
            end = following.end
        if len(records) > limit:
            kept, rest = records[:limit], records[limit:]
            self._chunks.appendleft(RawChunk(kept[-1].offset + 1, end, rest))
            records, end = kept, kept[-1].offset + 1
        self.waiting -= len(records)
        return RawChunk(first.base, end, records)

    @property
    def idle(self) -> bool:
        """Whether everything accepted is committed."""
        return self.taken >= self.end
