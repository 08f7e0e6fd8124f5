"""How long a fetch waits for company.

Only where company is to be expected, and only behind something that has just come: an event that comes alone, and the
first one of many, are taken at once. The fetch behind it is sent some milliseconds later and finds what came meanwhile,
in all partitions, and one transaction takes it, instead of one for each event. What may wait longer, as its
subscription says, does so in its lane.
"""

import asyncio
from contextlib import suppress
from typing import Any
from zlib import crc32

from shared.clock import monotonic

WINDOW_S = 0.2
"""How long events are counted before it is judged again."""
ALONE_MS = 100
"""A fetch that finds nothing is answered after this time. The client has one under way at a time: what was paused and
may go on waits for it."""
QUIET_MS = 1_000
"""Instead, where nothing came for a while."""
TICK_S = 0.15
"""What may wait for company, while much comes, is taken at the next tick: in all partitions at once."""
TICKS_MAX = 4
"""Or at each second or fourth, where less comes and has come for a while, so that there is enough to take."""
ENOUGH = 50
"""Records: for fewer a transaction costs more than what is in it."""
COMPANY_PER_S = 10
"""So much is to come for that."""
WORTH_IT = 0.2
"""Events that are to be expected while a fetch gathers. For fewer it is sent at once; for more it is not, also because
to make and send it takes the processor just when what came could begin its transaction."""


def phase_of(group: str) -> float:
    """When a group has its ticks, the same in every process."""
    return crc32(group.encode()) % 100 / 100 * TICK_S


def _ticks_for(per_s: float) -> int:
    ticks = 1
    while ticks < TICKS_MAX and per_s * ticks * TICK_S < ENOUGH:
        ticks *= 2
    return ticks


class Gathering:
    """Of one consumer, whose fetches wait for `gather_ms` while much comes. Its ticks are `phase_s` beside those of
    other groups, which would only stand in each other's way. `fetcher` is the client's: it has no other way to change
    this while it runs. AttributeError where it has not this one either."""

    def __init__(self, fetcher: Any, *, gather_ms: int, phase_s: float = 0.0) -> None:
        self._fetcher, self._gather_ms, self._phase_s = fetcher, gather_ms, phase_s
        self._fetch, fetcher._proc_fetch_request = fetcher._proc_fetch_request, self._fetch_when_gathered
        self._wait_at_most(ALONE_MS)
        self._since, self._count = monotonic(), 0
        self._has_company, self._not_before = False, 0.0
        self._hurried = asyncio.Event()
        self.expects = False
        """Whether what may wait for longer does."""
        self._ticks = 1

    def note(self, records: int) -> None:
        """A poll brought so many records; none, when only time has passed. Before the client fetches again."""
        self._count += records
        now = monotonic()
        if now - self._since >= WINDOW_S:
            per_s = self._count / (now - self._since)
            self._since, self._count = now, 0
            expected, self.expects = self.expects, per_s >= COMPANY_PER_S
            self._ticks = min(_ticks_for(per_s), 2 * self._ticks) if expected and self.expects else 1
            self._has_company = per_s * self._gather_ms / 1000 >= WORTH_IT
            self._wait_at_most(ALONE_MS if per_s else QUIET_MS)
        self._not_before = now + self._gather_ms / 1000 if records > 0 and self._has_company else 0.0

    def gathers_for_s(self) -> float:
        """How long a fetch that is sent now waits for company."""
        return max(0.0, self._not_before - monotonic())

    def hurry(self) -> None:
        """What may not wait is there to be fetched: the next fetch is sent at once, also one that waits."""
        self._hurried.set()

    def patience_s(self) -> float:
        """How long what may wait does: not at all while little comes."""
        tick_s = self._ticks * TICK_S
        return tick_s - (monotonic() + self._phase_s) % tick_s if self.expects else 0.0

    async def _fetch_when_gathered(self, *request: Any) -> Any:
        """In the place of the client's own. Where it is cancelled, as at a rebalance, it answers as that one does:
        nothing has come."""
        if (wait_s := self.gathers_for_s()) > 0:
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._hurried.wait()
            except asyncio.CancelledError:
                return False
        self._hurried.clear()
        return await self._fetch(*request)

    def _wait_at_most(self, wait_ms: int) -> None:
        self._fetcher._fetch_max_wait_ms  # a client that has it no more should say so  # noqa: B018
        self._fetcher._fetch_max_wait_ms = wait_ms
