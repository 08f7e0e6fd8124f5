"""Named places in a service process at which it can be hurt: wrapped around its functions from outside.

A process looks for an order in a file of its own. `kill before-commit 3` ends it with SIGKILL when it comes to that
place for the third time; `stop` sends SIGSTOP. Nothing of this is in the services.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import asyncpg

import shared.migrating
import shared.publishing
import shared.service
import shared.taking
import shared.timers
from shared.intake import Intake
from shared.relay import Outflow
from shared.sending import Sender
from shared.taking import ChunkTaker
from tests.chaos.faults import Point

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
IN_MIGRATION = "in-migration"
PLACES: frozenset[str] = frozenset((*get_args(Point), IN_MIGRATION))
PACES_S = (0.0, 0.0, 0.0, 0.02, 0.15)
"""What is decided waits so long for its commit: windows are open in which another transaction may go wrong."""


class Points:
    """Of one process. `order_file` holds the order that is under way, if any."""

    def __init__(self, order_file: Path) -> None:
        self._order_file = order_file
        self._passed: dict[tuple[float, str], int] = {}

    def reach(self, place: str) -> None:
        """Come to a place: hurt the process if it was ordered so."""
        try:
            written, text = self._order_file.stat().st_mtime_ns, self._order_file.read_text()
        except FileNotFoundError:
            return
        how, ordered, nth = text.split()
        if ordered != place:
            return
        key = (written, place)
        self._passed[key] = self._passed.get(key, 0) + 1
        if self._passed[key] >= int(nth):
            self._order_file.unlink(missing_ok=True)
            os.kill(os.getpid(), SIGNALS[how])

    def install(self, *, chance: random.Random) -> None:
        """Wrap what the places are named after."""
        reach = self.reach

        async def before_commit(*_: Any) -> None:
            await asyncio.sleep(chance.choice(PACES_S))
            reach("before-commit")

        async def before_timers_commit(*_: Any) -> None:
            await asyncio.sleep(chance.choice(PACES_S))
            reach("before-timers-commit")

        def taking(_taker: Any) -> None:
            reach("before-take")

        delete = Outflow._delete

        async def deleting(outflow: Any) -> None:
            if outflow._acknowledged:
                reach("after-publish")
                await delete(outflow)
                reach("after-delete")

        command = shared.service.Service.command

        @asynccontextmanager
        async def commanding(service: Any, name: str, **options: Any) -> AsyncIterator[Any]:
            async with command(service, name, **options) as work:
                yield work
                await asyncio.sleep(chance.choice(PACES_S))
                reach("command-undone")
            reach("command-done")

        put(shared.service.Service, "command", commanding)
        _wrap(shared.taking, "take_chunks", after=before_commit)
        _wrap(ChunkTaker, "_try", before=taking, after=lambda *_: reach("after-commit"))
        put(Outflow, "_delete", deleting)
        _wrap(Sender, "_deliver", before=lambda *_: reach("before-publish"))
        _wrap(shared.timers, "claim_timers", after=lambda claimed: reach("timers-claimed") if claimed else None)
        _wrap(shared.service, "run_timers", after=before_timers_commit)
        _wrap(shared.publishing.Publisher, "publish", after=lambda _: reach("accepted"))
        _wrap(Intake, "on_partitions_revoked", before=lambda *_: reach("revoked"))
        _wrap(Intake, "on_partitions_assigned", after=lambda *_: reach("assigned"))

    def install_in_migration(self) -> None:
        """A migration has been run and is not noted yet, in the same transaction."""
        execute = asyncpg.Connection.execute

        async def executing(connection: Any, query: str, *values: Any, **options: Any) -> Any:
            if query.startswith("insert into public.migrations"):
                self.reach(IN_MIGRATION)
            return await execute(connection, query, *values, **options)

        put(asyncpg.Connection, "execute", executing)


def put(owner: Any, name: str, value: Any) -> None:
    """Set what is there already. AttributeError where it is not."""
    getattr(owner, name)
    setattr(owner, name, value)


def _wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[[Any], Awaitable[None] | None] | None = None,
) -> None:
    """`before` gets the first argument, `after` the result. AttributeError where there is no such name."""
    original = getattr(owner, name)
    assert asyncio.iscoroutinefunction(original), f"{name} is no coroutine function any more"

    async def wrapped(*args: Any, **options: Any) -> Any:
        if before is not None:
            before(*args[:1])
        result = await original(*args, **options)
        if after is not None:
            waiting = after(result)
            if waiting is not None:
                await waiting
        return result

    put(owner, name, wrapped)
