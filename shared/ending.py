"""Ending background work for certain."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

AGAIN_S = 0.3


async def end_tasks(tasks: "Iterable[asyncio.Task[Any]]", *, within_s: float, after_s: float = 0.0) -> bool:
    """Cancel tasks until all have ended; False where some have not within the time. `after_s`: so long they may take to
    end by themselves.

    Once is not enough: up to Python 3.11 `asyncio.wait_for`, which libraries use too, loses a cancellation that comes
    in the moment in which what it waits for is done.
    """
    left = {task for task in tasks if not task.done()}
    if left and after_s > 0:
        _, left = await asyncio.wait(left, timeout=after_s)
    deadline = asyncio.get_running_loop().time() + within_s
    while left and asyncio.get_running_loop().time() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    return not left


async def see_through(task: "asyncio.Task[Any]", *, within_s: float) -> bool:
    """Wait for what must come to its end however often whoever waits is cancelled; False where it has not ended within
    the time. Whoever calls this raises the cancellation afterwards."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not task.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait((task,), timeout=left)
    return task.done()
