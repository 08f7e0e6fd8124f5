"""A service whose routes fail in every way that ends in a log line: `python -m tests.shared.faulty_service`."""

import asyncio
import gc
import logging
import sys
import threading
import warnings
from typing import Final

import asyncpg
from fastapi import APIRouter

from shared.service import Service, run
from shared.settings import ServiceSettings
from shared.telemetry import logger

MARKER: Final = "pain-of-nine"
"""Stands for member data: whatever is logged must not hold it."""
router = APIRouter()
log = logger("faulty")


def _failure() -> RuntimeError:
    return RuntimeError(f'{MARKER} with "quotes"\nand a second line')


@router.get("/bugs/route")
async def fail() -> None:
    raise _failure()


@router.get("/bugs/database")
async def fail_in_database() -> None:
    error = asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
    error.detail = f"Key (text)=({MARKER}) already exists."
    error.constraint_name = "messages_pkey"
    raise error from _failure()


@router.get("/bugs/task")
async def fail_in_background() -> None:
    async def work() -> None:
        raise _failure()

    task = asyncio.create_task(work())
    await asyncio.wait([task])
    del task
    gc.collect()  # asyncio tells of a failure that nobody asked for when the task is collected
    loop = asyncio.get_running_loop()
    loop.call_soon(_raise, MARKER)


def _raise(value: str) -> None:
    raise RuntimeError(value)


@router.get("/bugs/thread")
async def fail_in_thread() -> None:
    thread = threading.Thread(target=_raise, args=(MARKER,))
    thread.start()
    await asyncio.to_thread(thread.join)


@router.get("/bugs/logged")
async def fail_and_log() -> None:
    library = logging.getLogger("some.library")
    library.error('it said "no"\nand then: %s', _failure())
    try:
        raise _failure()
    except RuntimeError as error:
        library.exception("gave up: %s", error)
        library.exception(f"gave up: {error}")  # as some libraries do
        log.exception("an own line with its failure")
        log.error("an own line with a failure as a value", error=error, all=[error])
    library.error("%d of them", MARKER)
    library.warning('a "quoted" line\twith %d odd\x00 characters', 2)
    warnings.warn("an odd use\nof something", stacklevel=1)


@router.get("/bugs/end")
async def fail_at_the_end() -> None:
    """What Python itself would print for a failure that nobody catches."""
    try:
        raise _failure()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def build(settings: ServiceSettings) -> Service:
    return Service(name="faulty", settings=settings, routers=[router])


if __name__ == "__main__":
    run(build(ServiceSettings()))
