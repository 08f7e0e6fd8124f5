"""A partition's queue between the poll and the transaction: bounded, in log order, with the base of every chunk."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord, TopicPartition


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Undecoded records of one partition. `base` is the end of the chunk before, or the position sought."""

    base: int
    end: int
    records: Sequence[ConsumerRecord]


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
        self._doubted: int | None = None
        """First offset of records that do not continue this lane."""
        self._confirmed_gap: int | None = None
        self._chunks: deque[RawChunk] = deque()
        self._filled = asyncio.Event()

    def offer(self, records: list[ConsumerRecord]) -> bool:
        """Accept records that continue this lane; False where they begin after its end and the log must be asked.

        Offsets may have gaps (transactions), but a batch polled before the seek looks just the same. So a gap counts
        only when the log was asked (confirm_gap) and a fresh fetch from the lane's end shows the same first record.
        """
        fresh = [record for record in records if record.offset >= self.end]
        if not fresh:
            return True
        first = fresh[0].offset
        if first > self.end and self._confirmed_gap != first:
            self._doubted = first
            return False
        self._confirmed_gap = self._doubted = None
        end = fresh[-1].offset + 1
        self._chunks.append(RawChunk(self.end, end, fresh))
        self.end = end
        self.waiting += len(fresh)
        self._filled.set()
        return True

    def confirm_gap(self) -> None:
        """The log still holds this lane's end: what begins after it does so because nothing lies between."""
        self._confirmed_gap = self._doubted

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
