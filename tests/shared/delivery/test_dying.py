"""Given what ends the process each time, before anything has come, when a red flag comes, then it goes out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias
from uuid import uuid4

import asyncpg

from shared.database import Database, open_database
from shared.dying import DEATHS_MAX, run_with_care
from shared.outcomes import Cause, Timer
from shared.timers import save_timers
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.services import Consume, Publish
from tests.shared.delivery.probe import ACTIVITY, pain
from tests.shared.delivery.test_killed import url, watch

__all__ = ["url", "watch"]
Watch: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
REST_OF_A_LONG_QUEUE = """
update delivery.held_events set state = 'waiting', reason = 'long-queue', expires_at = now()
where held_id = (select min(held_id) from delivery.held_events)
"""
ATTEMPTS = "select coalesce(sum(attempts), 0)::int from delivery.attempts where consumer_group like 'task %'"


@asynccontextmanager
async def started_again(service: ServiceProcess) -> AsyncIterator[None]:
    """Whenever it dies, as a cluster does."""

    async def again() -> None:
        while True:
            await service.ended()
            await service.start()

    starting = asyncio.create_task(again())
    try:
        yield
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def test_a_killer_in_the_rest_of_a_long_queue_keeps_no_red_flag(
    url: str, spawn_service: SpawnService, publish: Publish, consume: Consume, watch: Watch
) -> None:
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    guilty, flagged = uuid4(), uuid4()

    async def queued(many: int) -> bool:
        return bool(await watch.fetchval("select count(*) from delivery.held_events") == many)

    await publish(ACTIVITY, pain(guilty, 9))
    await eventually(partial(queued, 1))
    await publish(ACTIVITY, pain(guilty, 1), pain(guilty, 6))
    await eventually(partial(queued, 3))
    await watch.execute("insert into switches values ('fixed')")
    await watch.execute(REST_OF_A_LONG_QUEUE)
    await service.ended(within=30)
    await publish(ACTIVITY, pain(flagged, 3, findings=("chest-pain-breathless",)))
    async with started_again(service):
        (flag,) = await consume("careloop.plans", count=1, within=90)
    assert flag["subject"] == str(flagged)


async def test_a_timer_that_kills_keeps_no_red_flag(
    url: str, spawn_service: SpawnService, publish: Publish, consume: Consume, watch: Watch
) -> None:
    cause = Cause(source="urn:test", id="cause", chain="chain")
    at = datetime.now(UTC)
    await watch.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
    await save_timers(watch, [Timer(kind="killer", key="1", member_id=uuid4(), due_at=at, cause=cause)])
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    await service.ended(within=30)
    flagged = uuid4()
    await publish(ACTIVITY, pain(flagged, 3, findings=("chest-pain-breathless",)))
    async with started_again(service):
        (flag,) = await consume("careloop.plans", count=1, within=90)
    assert flag["subject"] == str(flagged)


async def test_work_that_lets_its_process_live_is_begun_at_once(url: str, watch: Watch) -> None:
    """However often it has ended in order; who has lived for a while owes nothing, whoever died before."""
    database: Database = await open_database(url, connections=2, application="test")
    done = asyncio.Event()

    async def work() -> None:
        done.set()
        await asyncio.Event().wait()

    async def begin(*, lives_after_s: float) -> "asyncio.Task[None]":
        done.clear()
        task = asyncio.create_task(run_with_care(database, name="work", work=work, lives_after_s=lives_after_s))
        await asyncio.wait_for(done.wait(), 20)
        return task

    async def owes(many: int) -> bool:
        return bool(await watch.fetchval(ATTEMPTS) == many)

    try:
        for _ in range(DEATHS_MAX + 2):
            task = await begin(lives_after_s=60.0)
            assert await owes(1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await owes(0)
        await watch.execute("update delivery.attempts set attempts = $1", DEATHS_MAX)
        task = await begin(lives_after_s=0.3)
        await eventually(partial(owes, 0))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await owes(0)
    finally:
        await database.close()
