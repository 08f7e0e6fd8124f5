"""What a process begins by itself, and may die of each time: it begins late then, so that what comes goes first.

Of a record that kills the attempts are counted (shared/taking.py). What is due already, a timer or the rest of a queue,
is begun before the first record has come; a process that dies of it at once would take nothing, for ever. Each is
run alone then, and the attempts at it are counted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

from shared.database import Connection, Database
from shared.positions import ATTEMPTS_MAX, forget_attempts, record_attempt, take_back_attempt
from shared.telemetry import logger

DEATHS_MAX = 3
"""So many processes may have died of it in a row. One that has begun a moment ago counts, too, as nobody knows yet: of
many that are started at once some begin late."""
log = logger("service")
CarefulWork: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
"""Given whether to be careful at the moment: too many have died soon after they began it, and this one has not lived
long yet."""


async def run_with_care(database: Database, *, name: str, work: CarefulWork, lives_after_s: float) -> None:
    """Run background work for as long as the process lives. `lives_after_s`: who has run it for so long did not die of
    it; where too many did, it begins so much later."""
    place = (f"task {name}", "", 0, 0)  # beside the attempts at records, of no group's topic
    said = {"task": name, "in_s": lives_after_s}
    async with database.acquire(timeout=30) as connection:
        is_late = await record_attempt(connection, *place) > DEATHS_MAX

    async def live() -> None:
        await asyncio.sleep(2 * lives_after_s if is_late else lives_after_s)
        async with database.acquire(timeout=30) as connection:
            await forget_attempts(connection, *place)

    living = asyncio.create_task(live())
    try:
        if is_late:
            log.warning("other processes began this and have not lived long yet; here it begins later", **said)
            await asyncio.sleep(lives_after_s)
        await work(lambda: is_late and not living.done())
    finally:
        is_forgotten = living.done() and living.exception() is None
        living.cancel()
        if not is_forgotten:  # it ends with its process alive
            with suppress(Exception):
                await asyncio.shield(_end(database, take_back_attempt, place))


@dataclass(frozen=True, slots=True)
class Attempts:
    """At things that are run one by one, written down beside the transaction that runs each."""

    database: Database

    @asynccontextmanager
    async def at(self, name: str, *, within: Connection) -> AsyncIterator[bool]:
        """Around one attempt `within` a transaction: whether to make it. Not where nobody heard again of those before
        it; the transaction that gives it up then forgets them. One that ends, however it does, counts no more."""
        place = (name, "", 0, 0)
        async with self.database.acquire(timeout=5) as connection:
            may_run = await record_attempt(connection, *place) <= ATTEMPTS_MAX
        if not may_run:
            yield False
            await forget_attempts(within, *place)
            return
        end = take_back_attempt
        try:
            yield True
            end = forget_attempts
        finally:
            await asyncio.shield(_end(self.database, end, place))


async def _end(database: Database, end: Callable[..., Awaitable[None]], place: tuple[str, str, int, int]) -> None:
    async with database.acquire(timeout=5) as connection:
        await end(connection, *place)
