"""Given groups that are stuck, when their process is stopped in order, then its safety group is handed over at once."""

import time
from uuid import uuid4

import asyncpg

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
