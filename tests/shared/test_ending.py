"""What must come to its end does, however often whoever waits for it is told to end."""

import asyncio

from shared.ending import end_tasks, see_through


async def test_what_is_seen_through_ends_however_often_whoever_waits_is_cancelled() -> None:
    """Whoever ends a process cancels its tasks again and again."""
    may_end = asyncio.Event()
    waiting = asyncio.create_task(see_through(asyncio.create_task(may_end.wait()), within_s=30))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    async with asyncio.timeout(10):
        assert await waiting


async def test_what_ends_by_itself_in_time_is_not_cut_off() -> None:
    ending = asyncio.create_task(asyncio.sleep(0.01, "whole"))
    assert await end_tasks([ending], after_s=10, within_s=10)
    assert ending.result() == "whole"


async def test_what_does_not_end_in_time_is_not_waited_for() -> None:
    never = asyncio.create_task(asyncio.Event().wait())
    async with asyncio.timeout(10):
        assert not await see_through(never, within_s=0.01)
    never.cancel()
