"""Ending background work for certain."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.3


async def end_tasks(tasks: "Iterable[asyncio.Task[Any]]", *, within_s: float) -> bool:
    """Cancel tasks until all have ended; False where some have not within the time.

    Once is not enough: up to Python 3.11 `asyncio.wait_for`, which libraries use too, loses a cancellation that comes
    in the moment in which what it waits for is done.
    """
    deadline = asyncio.get_running_loop().time() + within_s
    left = {task for task in tasks if not task.done()}
    while left and asyncio.get_running_loop().time() < deadline:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    return not left
