"""How long a fetch waits for company.

Where little comes, not at all: each event is taken at once. Where much comes, some milliseconds: the broker answers
with what came meanwhile, in all partitions, and one fetch and one transaction take it, instead of one for each event.
What may wait longer, as its subscription says, does so in its lane.
"""

from typing import Any
from zlib import crc32

from shared.clock import monotonic

WINDOW_S = 0.2
"""How long events are counted before it is judged again."""
BUSY_PER_S = 50
"""From so many events a second on, fetches wait."""
ALONE_MS, ALONE_BYTES = 100, 1
"""A fetch that finds nothing is answered after this time, one that finds so much at once."""
GATHER_BYTES = 64 * 1024
TICK_S = 0.1
"""What may wait for company, while much comes, is taken at the next tick: in all partitions at once."""


def phase_of(group: str) -> float:
    """When a group has its ticks, the same in every process."""
    return crc32(group.encode()) % 100 / 100 * TICK_S


class Gathering:
    """Of one consumer, whose fetches wait for `gather_ms` while much comes. Its ticks are `phase_s` beside those of
    other groups, which would only stand in each other's way. `fetcher` is the client's: it has no other way to change
    this while it runs. AttributeError where it has not this one either."""

    def __init__(self, fetcher: Any, *, gather_ms: int, phase_s: float = 0.0) -> None:
        self._fetcher, self._gather_ms, self._phase_s = fetcher, gather_ms, phase_s
        self._tell(ALONE_MS, ALONE_BYTES)
        self._since, self._count = monotonic(), 0
        self.is_on = False

    def note(self, records: int) -> None:
        """So many records came; none, when only time has passed."""
        self._count += records
        now = monotonic()
        if now - self._since < WINDOW_S:
            return
        busy = self._count / (now - self._since) >= BUSY_PER_S
        self._since, self._count = now, 0
        if busy != self.is_on:
            self.is_on = busy
            self._tell(self._gather_ms, GATHER_BYTES) if busy else self._tell(ALONE_MS, ALONE_BYTES)

    def patience_s(self) -> float:
        """How long what may wait does: not at all while little comes."""
        return TICK_S - (monotonic() + self._phase_s) % TICK_S if self.is_on else 0.0

    def _tell(self, wait_ms: int, least_bytes: int) -> None:
        for name, value in (("_fetch_max_wait_ms", wait_ms), ("_fetch_min_bytes", least_bytes)):
            getattr(self._fetcher, name)  # a client that has it no more should say so
            setattr(self._fetcher, name, value)
