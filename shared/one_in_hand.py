"""Who takes a record whose attempts are counted: one at a time in the whole process, or an innocent one beside what
kills it would be condemned, too. A red flag waits for no ordinary one: that is given up, taken back and tried again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class OneInHand:
    """Of one process."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._ordinary = asyncio.Lock()
        """At most one ordinary record is before one that hurries."""
        self._hurrying = 0
        """So many that hurry wait."""
        self._giving_way: asyncio.Timeout | None = None
        """Of the ordinary record in hand."""

    @asynccontextmanager
    async def take(self, *, hurries: bool) -> AsyncIterator[asyncio.Timeout]:
        """Alone until the block ends. What of it may be given up, it does within the time-out: TimeoutError where one
        that hurries has come."""
        if hurries:
            async with self._first():
                yield asyncio.timeout(None)
            return
        async with self._ordinary, self._one:
            self._giving_way = asyncio.timeout(0 if self._hurrying else None)
            try:
                yield self._giving_way
            finally:
                self._giving_way = None

    @asynccontextmanager
    async def _first(self) -> AsyncIterator[None]:
        self._hurrying += 1
        try:
            if self._giving_way is not None:
                with suppress(RuntimeError):  # it has given way already, or ended
                    self._giving_way.reschedule(0)
            await self._one.acquire()
        finally:
            self._hurrying -= 1
        try:
            yield
        finally:
            self._one.release()
