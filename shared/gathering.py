"""How long a fetch waits for company.

Only where company is to be expected, and only behind something that has just come: an event that comes alone, and the
first one of many, are taken at once. The broker answers the fetch behind it some milliseconds later with what came
meanwhile, in all partitions, and one transaction takes it, instead of one for each event. What may wait longer, as its
subscription says, does so in its lane.
"""

from typing import Any
from zlib import crc32

from shared.clock import monotonic

WINDOW_S = 0.2
"""How long events are counted before it is judged again."""
ALONE_MS, ALONE_BYTES = 100, 1
"""A fetch that finds nothing is answered after this time, one that finds so much at once. The client has one under way
at a time: what was paused and may go on waits for it."""
QUIET_MS = 400
"""Instead, where nothing came for a while."""
GATHER_BYTES = 64 * 1024
SLACK_MS = 2
"""A fetch that gathers is answered so much later."""
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
        self._alone_ms = ALONE_MS
        self._tell(self._alone_ms, ALONE_BYTES)
        self._since, self._count = monotonic(), 0
        self._has_company = False
        self.gathers = self.expects = False
        """Whether the next fetch waits for company, and whether what may wait for longer does."""

    def note(self, records: int) -> None:
        """A poll brought so many records; none, when only time has passed. Before the client fetches again."""
        self._count += records
        now = monotonic()
        if now - self._since >= WINDOW_S:
            per_s = self._count / (now - self._since)
            self._since, self._count = now, 0
            self.expects = per_s * TICK_S >= 1
            self._has_company = per_s * self._gather_ms >= 1_000
            self._alone_ms = ALONE_MS if per_s else QUIET_MS
        self.gathers = records > 0 and self._has_company and not self.gathers
        self._tell(self._gather_ms, GATHER_BYTES) if self.gathers else self._tell(self._alone_ms, ALONE_BYTES)

    def poll_ms(self, longest: int) -> int:
        """How long a poll waits, at most `longest`: behind a fetch that gathers, until it must have been answered."""
        return min(longest, self._gather_ms + SLACK_MS) if self.gathers else longest

    def patience_s(self) -> float:
        """How long what may wait does: not at all while little comes."""
        return TICK_S - (monotonic() + self._phase_s) % TICK_S if self.expects else 0.0

    def _tell(self, wait_ms: int, least_bytes: int) -> None:
        for name, value in (("_fetch_max_wait_ms", wait_ms), ("_fetch_min_bytes", least_bytes)):
            getattr(self._fetcher, name)  # a client that has it no more should say so
            setattr(self._fetcher, name, value)
