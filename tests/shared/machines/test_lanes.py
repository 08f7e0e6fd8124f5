"""A lane against the log that it reads: nothing twice, nothing left out, whatever the client polls when."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from aiokafka import TopicPartition
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.lanes import CHUNK_BYTES, Lane

LARGE = b" " * (CHUNK_BYTES * 2 // 5)


@dataclass(frozen=True)
class Logged:
    offset: int
    key = None
    headers = ()

    @property
    def value(self) -> bytes:
        """Every other one may wait for company; of every third there is room for two in a chunk."""
        said = b"calm" if self.offset % 2 else b"hurried"
        return said if self.offset % 3 else said + LARGE


def is_calm(value: bytes) -> bool:
    return value.startswith(b"calm")


class Reading(RuleBasedStateMachine):
    """The log has holes, where transactions ended; it grows at its end and is forgotten at its beginning. The client
    goes on from where it fetches, unless it is told to seek, and may have polled a batch before the lane was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.log: list[int] = []
        self.first = self.log_end = 0
        self.fetches_from = 0
        self.taken: list[int] = []
        self.base = 0
        self.much_until = 0
        """Up to here so much came that none of it waits for company."""

    @initialize(start=st.integers(0, 4), holes=st.lists(st.booleans(), min_size=4, max_size=12))
    def begin(self, start: int, holes: list[bool]) -> None:
        self.lane = self._open(start)
        self.fetches_from = self.base = self.start = start
        self.may_be_stale = True
        self.append(holes)

    @rule(holes=st.lists(st.booleans(), min_size=1, max_size=6))
    def append(self, holes: list[bool]) -> None:
        self.log += [self.log_end + place for place, is_hole in enumerate(holes) if not is_hole]
        self.log_end += len(holes)

    @rule(many=st.integers(1, 5))
    def poll(self, many: int) -> None:
        self.fetches_from = max(self.fetches_from, self.first)  # the client moves on by itself
        self._offer([offset for offset in self.log if offset >= self.fetches_from][:many], moves=True)

    @precondition(lambda self: self.may_be_stale and self.log)
    @rule(data=st.data(), many=st.integers(1, 5))
    def poll_what_was_fetched_before_the_seek(self, data: st.DataObject, many: int) -> None:
        start = data.draw(st.sampled_from(self.log))
        self._offer([offset for offset in self.log if offset >= start][:many], moves=False)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Retention passes."""
        self.first = data.draw(st.sampled_from([*self.log, self.log_end]))
        self.log = [offset for offset in self.log if offset >= self.first]

    @precondition(lambda self: self.lane.waiting)
    @rule(limit=st.integers(1, 4), patience_s=st.sampled_from((0.0, 0.0005)))
    def take(self, limit: int, patience_s: float) -> None:
        waited = self.lane.bytes
        chunk = self.runner.run(self.lane.next_chunk(limit, patience=lambda: patience_s))
        assert chunk.hurried or all(is_calm(record.value) for record in chunk.records)
        if chunk.hurried and len(chunk.records) < limit and waited <= CHUNK_BYTES and chunk.end > self.much_until:
            assert not is_calm(chunk.records[-1].value), "who hurries does not wait for what is behind it"
        size = sum(len(record.value) for record in chunk.records)
        assert size <= CHUNK_BYTES
        assert self.lane.bytes == waited - size
        assert chunk.base == self.base, "each chunk begins where the one before it ended"
        assert 1 <= len(chunk.records) <= limit
        assert chunk.end == chunk.records[-1].offset + 1
        self.taken += [record.offset for record in chunk.records]
        self.base = chunk.end

    def teardown(self) -> None:
        self.runner.close()

    @invariant()
    def accepted_is_what_the_log_holds_without_a_gap(self) -> None:
        if not hasattr(self, "lane"):
            return
        assert self.taken == sorted(set(self.taken)), "nothing twice, nothing out of order"
        missed = {o for o in self.written if self.start <= o < self.base} - set(self.taken)
        assert not missed, "nothing left out"

    @property
    def written(self) -> set[int]:
        return {offset for offset in self.log if offset >= self.first} | set(self.taken)

    def _offer(self, offsets: list[int], *, moves: bool) -> None:
        if not offsets:
            return
        before, self.may_be_stale = self.lane.end, False
        offered = self.lane.offer(self._records(offsets))
        if moves:
            self.fetches_from = offsets[-1] + 1
        if offered == "again":
            self.fetches_from = self.lane.end
        elif offered == "ask":
            if self.first > self.lane.end:
                self._reopen()
            else:
                self.lane.offer(self._records(offsets), gap_judged=True)
        if self.lane.bytes >= CHUNK_BYTES:
            self.much_until = self.lane.end
        if self.lane.end > before:
            skipped = [offset for offset in self.log if before <= offset < self.lane.end and offset not in offsets]
            assert not skipped, f"accepted {offsets} after {before}, and skipped {skipped}"

    def _reopen(self) -> None:
        """An operator has decided: from the beginning of what is left."""
        self.lane = self._open(self.first)
        self.fetches_from = self.base = self.start = self.first
        self.may_be_stale = True
        self.taken, self.much_until = [], 0

    def _open(self, start: int) -> Lane:
        return Lane(TopicPartition("t", 0), start=start, cautious=False, patient=is_calm)

    def _records(self, offsets: list[int]) -> Any:
        return cast(Any, [Logged(offset) for offset in offsets])


TestReading = Reading.TestCase
