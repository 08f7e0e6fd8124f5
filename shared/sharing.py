"""Lanes that have little to take share a transaction: its price is the same for one record as for a hundred. Those that
hurry share with each other, beside those that waited for company (shared/taking.py).

Whoever comes while one is under way goes with the next, so that there are few when there is much to do and each lane
has its own when it is behind. What fails is taken again by each lane alone: a failure costs only whom it concerns.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from shared.lanes import RawChunk

SMALL = 100
"""Records; a lane with more to take at once is behind, and takes them alone, beside the others."""
PATIENCE_S = 0.1
"""A transaction that takes longer keeps nobody else waiting: the next one begins beside it."""
LOCK_PATIENCE, SHORT_PATIENCE = "500ms", "100ms"
"""How long those who share wait for what somebody else has locked; the second, those who waited for company: somebody
who hurries may have come behind them."""


class SharedTransactions:
    """Of lanes of one subscription. `take` takes chunks in one transaction, or raises and none of them is taken."""

    def __init__(self, take: Callable[[Sequence[RawChunk]], Awaitable[None]], *, records_max: int) -> None:
        self._take, self._records_max = take, records_max
        self._waiting: deque[tuple[RawChunk, asyncio.Future[bool]]] = deque()
        self._beginning: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def join(self, raw: RawChunk) -> bool:
        """Take a chunk together with what else waits. False where that failed: it is not taken."""
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((raw, taken))
        if self._beginning is None or self._beginning.done():
            self._beginning = asyncio.create_task(self._begin())
        return await taken

    async def _begin(self) -> None:
        """One transaction after the other while anybody waits."""
        while together := self._next():
            task = asyncio.create_task(self._run(together))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.wait([task], timeout=PATIENCE_S)

    def _next(self) -> list[tuple[RawChunk, "asyncio.Future[bool]"]]:
        together: list[tuple[RawChunk, asyncio.Future[bool]]] = []
        room = self._records_max
        while self._waiting and (not together or len(self._waiting[0][0].records) <= room):
            raw, taken = self._waiting.popleft()
            if not taken.done():  # its lane may have let go of its partition
                together.append((raw, taken))
                room -= len(raw.records)
        return together

    async def _run(self, together: Sequence[tuple[RawChunk, "asyncio.Future[bool]"]]) -> None:
        is_taken = False
        try:
            await self._take([raw for raw, _ in together])
            is_taken = True
        except Exception:
            """Each lane meets it once more by itself, and judges it."""
        finally:
            for _, taken in together:
                if not taken.done():
                    taken.set_result(is_taken)
