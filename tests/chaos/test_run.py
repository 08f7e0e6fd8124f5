"""Given what a run does side by side, when one of it is cut off by a cancellation that nobody asked for, then the run
fails, although a group of tasks says nothing."""

import asyncio

import pytest

from tests.chaos.run import _all_of


async def goes_on() -> None:
    await asyncio.sleep(0)


async def is_cut_off() -> None:
    raise asyncio.CancelledError


async def test_all_are_done() -> None:
    await _all_of(goes_on(), goes_on())


async def test_one_that_is_cut_off_fails_the_run() -> None:
    with pytest.raises(RuntimeError, match="is_cut_off"):
        await _all_of(goes_on(), is_cut_off())
