"""PostgreSQL as if its disk were slow, by means that every machine has.

Each flush of its log waits, with the lock held that every commit needs, as it is held while a disk flushes. Now and
then all its processes are stopped for a moment: a disk that does not answer at all. Both end with the block.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil

from tests.chaos.patience import connected, patient
from tests.fixtures.eventually import eventually

FLUSH_MS = 100
"""The longest that PostgreSQL lets a flush wait."""
TOLD_S, AGAIN_S = 10.0, 90.0
STALLED_S, ANSWERS_S = (0.1, 0.5), (0.2, 0.8)
SLOW = (
    f"alter system set commit_delay = {FLUSH_MS * 1000}",
    "alter system set commit_siblings = 0",  # also where nobody else commits
    "select pg_reload_conf()",
)
AS_BEFORE = ("alter system reset commit_delay", "alter system reset commit_siblings", "select pg_reload_conf()")


@asynccontextmanager
async def slow_disk(postmaster: int, url: str, *, chance: random.Random) -> AsyncIterator[None]:
    """`postmaster`: the process of the server at `url`, a superuser's."""
    await _tell(url, SLOW)
    stalling = asyncio.create_task(_stall(postmaster, chance))
    try:
        yield
    finally:
        stalling.cancel()
        await asyncio.wait([stalling])
        await _tell(url, AS_BEFORE)


async def _tell(url: str, statements: tuple[str, ...]) -> None:
    """Each as often as it takes: a server that stood still until now answers late."""

    async def told() -> bool:
        async with connected(url) as connection:
            for statement in statements:
                await connection.execute(statement, timeout=TOLD_S)
        return True

    await eventually(patient(told), within=AGAIN_S, what="the server is told of its disk")


async def _stall(postmaster: int, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(*ANSWERS_S))
        with stopped(postmaster):
            await asyncio.sleep(chance.uniform(*STALLED_S))


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process and its children are stopped while the block runs, and go on whatever ends it."""
    parent = psutil.Process(pid)
    signalled = [parent]
    try:
        parent.send_signal(signal.SIGSTOP)  # first, so that it makes no more of them
        for child in parent.children(recursive=True):
            signalled.append(child)
            with suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in reversed(signalled):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
