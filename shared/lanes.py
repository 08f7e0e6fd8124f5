"""A partition's queue between the poll and the transaction: bounded, in log order, with the base of every chunk."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from aiokafka import ConsumerRecord, TopicPartition

from shared.events.codec import HEADERS
from shared.parking import Full
from shared.subscriptions import Patience, nothing


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Undecoded records of one partition. `base` is the end of the chunk before, or the position sought."""

    partition: int
    base: int
    end: int
    records: Sequence[ConsumerRecord]
    hurried: bool = True
    """Whether they may not wait: for what one of them is, or for how many they are."""


Offered = Literal["taken", "again", "ask"]
"""What became of a batch: taken; to be fetched again from the lane's end; to be judged by what the log still holds."""


MANY = 100
"""Records that wait are company enough."""
CHUNK_BYTES = 1 << 20
"""A chunk has no more, unless its one record has: a session has less than a thousandth of it, the largest event a
sixteenth."""
HEADER_BYTES = 64
"""What a header takes in memory beside its text. In the log it may have two bytes, and a record 340,000 of them."""


class Lane:
    """Records of one assigned partition that wait for their transaction. `patient`: which may wait for
    company, as their subscription says."""

    def __init__(self, partition: TopicPartition, *, start: int, cautious: bool, patient: Patience = nothing) -> None:
        self.partition = partition
        self.end = start
        """End of the last record accepted."""
        self.taken = start
        """End of the last chunk committed."""
        self.cautious = cautious
        """Take records one by one, counting attempts: several starts made no progress here."""
        self.retrying_since: float | None = None
        """Machine time since which the chunk in hand fails, for readiness."""
        self.in_hand_since: float | None = None
        """Machine time since which there is a chunk in hand, however it goes."""
        self.full: Full | None = None
        """What is full, where the next record would have to be held and there is no room for it."""
        self.silent_at, self.silent_checks = start, 0
        """Where it stood, and in how many checks in a row, although the log goes on (shared/watching.py)."""
        self._doubted: int | None = None
        """First offset of records that do not continue this lane."""
        self._records: list[ConsumerRecord] = []
        self._sizes: list[int] = []
        self.bytes = 0
        """Of the records queued."""
        self._base = start
        """End of the last chunk handed out."""
        self._filled = asyncio.Event()
        self._patient = patient
        self._hurried = asyncio.Event()
        """Set while something waits that may not, or much."""
        self._hurry_end = start
        """End of the last record accepted that may not wait."""

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
        sizes = list(map(_size, fresh))
        self._records += fresh
        self._sizes += sizes
        self.bytes += sum(sizes)
        self.end = fresh[-1].offset + 1
        self._filled.set()
        hurry_end = self.end if self.holds(MANY, CHUNK_BYTES) else self._end_of_hurried(fresh)
        if hurry_end is not None:
            self._hurry_end = hurry_end
            self._hurried.set()
        return "taken"

    def misses(self, records: Sequence[ConsumerRecord]) -> bool:
        """Whether one of these records of its partition, which it has not received yet, may not wait."""
        return any(one.offset >= self.end and not self._patient(one.value or b"") for one in records)

    def _end_of_hurried(self, records: Sequence[ConsumerRecord]) -> int | None:
        """After the last of these records that may not wait; None where each may."""
        return next((one.offset + 1 for one in reversed(records) if not self._patient(one.value or b"")), None)

    async def next_chunk(self, limit: int, *, patience: Callable[[], float]) -> RawChunk:
        """The next records, at most `limit`: few when little waits (latency), many when behind (throughput). Where all
        that waits may wait for company, it does for as many seconds as `patience` says then. What may not takes along
        what is before it, and leaves what is behind it."""
        while not self._records:
            self._filled.clear()
            await self._filled.wait()
        if self.waiting < limit and not self._hurried.is_set() and (wait_s := patience()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurried.wait()
        base, records, hurried = self._base, self._records[:limit], self._hurried.is_set()
        if hurried and records[-1].offset >= self._hurry_end:
            records = [record for record in records if record.offset < self._hurry_end]
        if self.bytes > CHUNK_BYTES:
            ends = accumulate(self._sizes[: len(records)])
            records = records[: max(1, sum(end <= CHUNK_BYTES for end in ends))]
        self.bytes -= sum(self._sizes[: len(records)])
        del self._records[: len(records)], self._sizes[: len(records)]
        self._base = records[-1].offset + 1
        if self._base >= self._hurry_end:
            self._hurried.clear()
        return RawChunk(self.partition.partition, base, self._base, records, hurried)

    @property
    def waiting(self) -> int:
        """Records queued."""
        return len(self._records)

    def holds(self, records: int, size: int) -> bool:
        """Whether so many records wait, or so many bytes."""
        return self.waiting >= records or self.bytes >= size

    @property
    def idle(self) -> bool:
        """Whether everything accepted is committed."""
        return self.taken >= self.end


def _size(record: ConsumerRecord) -> int:
    size = len(record.value or b"") + len(record.key or b"")
    if record.headers and record.headers != HEADERS:
        size += sum(HEADER_BYTES + len(name) + len(content or b"") for name, content in record.headers)
    return size
