"""A process that is stopped hands over what it can, and keeps nothing."""

import asyncio
import sys
import time
from typing import Any, cast
from uuid import uuid4

import asyncpg
from pydantic import SecretStr

from shared.ending import end_tasks
from shared.relay import Relay
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import SpawnService
from tests.fixtures.services import Consume, Publish
from tests.shared.delivery.conftest import RED_FLAG
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused


async def test_stuck_groups_do_not_keep_the_safety_group_from_being_handed_over(
    probe_url: str, spawn_service: SpawnService, publish: Publish, consume: Consume
) -> None:
    """With the session time-out that a service has."""
    one, other = (
        spawn_service("tests.shared.delivery.probe", database_url=probe_url, session_timeout_s=20) for _ in range(2)
    )
    await one.start()
    await one.settled()
    holder = await asyncpg.connect(probe_url)
    try:
        async with holder.transaction():
            await holder.execute("lock table effects, known_members in share mode")
            await publish(ACTIVITY, pain(uuid4(), 1))
            await publish(MEMBERS, paused(uuid4()))
            waits = "select count(*) = 2 from pg_locks where not granted"
            await eventually(lambda: holder.fetchval(waits), within=20, what="two groups are stuck")
            assert await one.terminate(within=30) == 0
            await other.start()
            began = time.monotonic()
            await publish(ACTIVITY, pain(uuid4(), 1, findings=RED_FLAG))
            await consume("careloop.plans", count=1, within=60)
            assert time.monotonic() - began < 12
    finally:
        await holder.close()


class BusyListener:
    """A connection on which the lease is had at once, and given back not before long."""

    def __init__(self) -> None:
        self.gives_back = asyncio.Event()
        self.released = 0

    async def fetchval(self, *_: object) -> bool:
        return True

    async def execute(self, *_: object) -> None:
        self.gives_back.set()
        await asyncio.Event().wait()

    async def fetch(self, *_: object) -> list[object]:
        return []

    async def add_listener(self, *_: object) -> None: ...

    async def acquire(self) -> "BusyListener":
        return self

    async def release(self, _: "BusyListener") -> None:
        self.released += 1


async def test_a_relay_that_is_told_to_end_more_than_once_keeps_no_connection() -> None:
    """Given a database that is slow to take the lease back, when the relay is cancelled again meanwhile, then the
    connection is back in its pool: it is one of a few that red flags have for themselves."""
    pool = BusyListener()
    settings = ServiceSettings(database_url=SecretStr("postgresql://not.used"), port=0)
    relay = Relay(settings, cast(Any, pool), cast(Any, pool))
    leading = asyncio.create_task(relay._lead())
    await eventually(lambda: relay.leading, within=10)
    leading.cancel()
    await asyncio.wait_for(pool.gives_back.wait(), 10)
    assert await end_tasks([leading], within_s=10)
    assert pool.released == 1
    assert not relay.leading


async def test_a_relay_has_ended_once_all_of_it_has_however_often_it_is_told_to() -> None:
    """What goes on behind it would find its database closed."""
    pool = BusyListener()
    settings = ServiceSettings(database_url=SecretStr("postgresql://not.used"), port=0)
    relay = Relay(settings, cast(Any, pool), cast(Any, pool))
    running = asyncio.create_task(relay.run())
    await eventually(lambda: relay.leading, within=10)
    assert await end_tasks([running], within_s=20)
    assert pool.released == 1
    assert not relay.leading


STOPPED_EARLY = """
import os, signal, uvicorn
from unittest import mock
from shared.hosting import Health
from shared.service import run

def serve(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    print("served")

uvicorn.run = serve
run(mock.MagicMock(settings=mock.MagicMock(log_level="INFO"), health=Health()))
"""


async def test_a_process_that_is_stopped_before_it_serves_does_not_begin() -> None:
    """Between the first line of a process and the server's own handler of signals."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STOPPED_EARLY, stdout=asyncio.subprocess.PIPE)
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, told) == (0, b"")
