"""Given what ends the process each time, before anything has come, when a red flag comes, then it goes out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from shared.database import Database, open_database
from shared.dying import DEATHS_MAX, run_with_care
from shared.intake import STALLED_STARTS_MAX
from shared.outcomes import Cause, Timer
from shared.positions import ATTEMPTS_MAX, record_attempt
from shared.suspect_timers import FAILURES_MAX
from shared.timers import save_timers
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.services import Consume, Publish
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused
from tests.shared.delivery.test_killed import url, watch

__all__ = ["url", "watch"]
Watch: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
REST_OF_A_LONG_QUEUE = """
update delivery.held_events set state = 'waiting', reason = 'long-queue', expires_at = now()
where held_id = (select min(held_id) from delivery.held_events)
"""
BEGUN_IN_VAIN = "update delivery.positions set stalled_starts = $1 where consumer_group = 'probe.members'"
QUEUED = "select count(*) from delivery.held_events"
COUNTED = "select count(*) from delivery.attempts where consumer_group like 'timer %' or consumer_group like 'held %'"
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
    flagged = uuid4()
    await set_queue(publish, watch)
    await service.ended(within=30)
    await publish(ACTIVITY, pain(flagged, 3, findings=("chest-pain-breathless",)))
    async with started_again(service):
        (flag,) = await consume("careloop.plans", count=1, within=90)
    assert flag["subject"] == str(flagged)


@pytest.mark.timeout(240)
async def test_a_killer_in_the_rest_of_a_long_queue_becomes_a_dead_letter(
    url: str, spawn_service: SpawnService, publish: Publish, watch: Watch
) -> None:
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    await set_queue(publish, watch)
    await service.ended(within=30)
    assert await watch.fetchval(QUEUED) == 3, "all were in one transaction"
    # As if two more had died of them, and three of that one alone.
    await watch.execute("update delivery.attempts set attempts = $1", DEATHS_MAX)
    killer = await watch.fetchval("select max(held_id) from delivery.held_events")
    await watch.execute("insert into delivery.attempts values ($1, '', 0, 0, $2)", f"held {killer}", ATTEMPTS_MAX)

    async def one_is_left() -> bool:
        rows = await watch.fetch("select held_id, state, reason from delivery.held_events")
        return [tuple(row) for row in rows] == [(killer, "dead", "kills-the-process")]

    async with started_again(service):
        await eventually(one_is_left, within=180)
        assert await watch.fetchval(COUNTED) == 0


@pytest.mark.timeout(300)
async def test_a_killer_that_waits_becomes_a_dead_letter_and_not_what_it_waits_for(
    url: str, spawn_service: SpawnService, publish: Publish, watch: Watch
) -> None:
    """Given an event that waits for its member and then kills, when the member comes then that takes effect."""
    member = uuid4()
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    await publish(ACTIVITY, pain(member, 8))
    await eventually(lambda: watch.fetchval(QUEUED))
    await publish(MEMBERS, paused(member))
    await service.ended(within=30)
    # As if two more had died of it, and three of that event alone.
    await watch.execute(BEGUN_IN_VAIN, STALLED_STARTS_MAX)
    await watch.execute("update delivery.attempts set attempts = $1", DEATHS_MAX)
    (killer,) = await watch.fetch("select held_id, state from delivery.held_events")
    assert killer["state"] == "waiting"
    await watch.execute(
        "insert into delivery.attempts values ($1, '', 0, 0, $2)", f"held {killer['held_id']}", ATTEMPTS_MAX
    )

    async def it_is_known() -> bool:
        return bool(await watch.fetchval("select exists (select from known_members where member_id = $1)", member))

    async def it_is_dead() -> bool:
        rows = await watch.fetch("select held_id, state, reason from delivery.held_events")
        return [tuple(row) for row in rows] == [(killer["held_id"], "dead", "kills-the-process")]

    async with started_again(service):
        await eventually(it_is_known, within=60)
        await eventually(it_is_dead, within=180)
        assert await watch.fetchval(COUNTED) == 0


async def set_queue(publish: Publish, watch: Watch) -> None:
    """Three events of a member, of which the last kills and the first need not wait any more."""
    member = uuid4()

    async def queued(many: int) -> bool:
        return bool(await watch.fetchval(QUEUED) == many)

    await publish(ACTIVITY, pain(member, 9))
    await eventually(partial(queued, 1))
    await publish(ACTIVITY, pain(member, 1), pain(member, 6))
    await eventually(partial(queued, 3))
    await watch.execute("insert into switches values ('fixed')")
    await watch.execute(REST_OF_A_LONG_QUEUE)


async def test_a_timer_that_kills_keeps_no_red_flag(
    url: str, spawn_service: SpawnService, publish: Publish, consume: Consume, watch: Watch
) -> None:
    await set_timers(watch, "guilty")
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    await service.ended(within=30)
    flagged = uuid4()
    await publish(ACTIVITY, pain(flagged, 3, findings=("chest-pain-breathless",)))
    async with started_again(service):
        (flag,) = await consume("careloop.plans", count=1, within=90)
    assert flag["subject"] == str(flagged)


@pytest.mark.timeout(240)
async def test_a_timer_that_kills_is_given_up_and_those_behind_it_run(
    url: str, spawn_service: SpawnService, watch: Watch
) -> None:
    await set_timers(watch, "before", "guilty", "behind")
    service = spawn_service("tests.shared.delivery.killing_later", database_url=url, session_timeout_s=6)
    await service.start()
    await service.ended(within=30)
    assert await watch.fetchval("select count(*) from delivery.timers") == 3, "all were in one transaction"
    # As if two more had died of them, and two of that one alone.
    await watch.execute("update delivery.attempts set attempts = $1", DEATHS_MAX)
    await watch.execute("insert into delivery.attempts values ('timer killer guilty', '', 0, 0, $1)", ATTEMPTS_MAX - 1)

    async def one_is_left() -> bool:
        rows = await watch.fetch("select key, failures from delivery.timers")
        return [tuple(row) for row in rows] == [("guilty", FAILURES_MAX)]

    async with started_again(service):
        await eventually(one_is_left, within=180)
        assert await watch.fetchval(COUNTED) == 0


async def set_timers(watch: Watch, *keys: str) -> None:
    """Due, in this order."""
    cause, at = Cause(source="urn:test", id="cause", chain="chain"), datetime.now(UTC) - timedelta(minutes=1)
    await watch.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
    timers = [
        Timer(kind="killer", key=key, member_id=uuid4(), due_at=at + timedelta(seconds=place), cause=cause)
        for place, key in enumerate(keys)
    ]
    await save_timers(watch, timers)


async def test_work_that_lets_its_process_live_is_begun_at_once(url: str, watch: Watch) -> None:
    """However often it has ended in order; who has lived for a while owes nothing, whoever died before."""
    database: Database = await open_database(url, connections=2, application="test")
    done, careful = asyncio.Event(), list[bool]()

    async def work(is_careful: Callable[[], bool]) -> None:
        careful.append(is_careful())
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
        assert careful == [False] * (DEATHS_MAX + 2) + [True]
    finally:
        await database.close()


async def test_what_fewer_died_of_is_begun_at_once(url: str, watch: Watch) -> None:
    """One death less than that may be a coincidence, and nobody waits for it."""
    database: Database = await open_database(url, connections=2, application="test")
    careful = asyncio.Queue[bool]()

    async def work(is_careful: Callable[[], bool]) -> None:
        careful.put_nowait(is_careful())
        await asyncio.Event().wait()

    async with database.acquire() as connection:
        for _ in range(DEATHS_MAX - 1):
            await record_attempt(connection, "task work", "", 0, 0)
    working = asyncio.create_task(run_with_care(database, name="work", work=work, lives_after_s=60.0))
    try:
        assert await asyncio.wait_for(careful.get(), 20) is False
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await database.close()
