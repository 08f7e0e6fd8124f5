"""Given a stream of events, when processes are killed or stopped at any moment, each effect is there once, in order."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.events import PainReported
from shared.intake import STALLED_STARTS_MAX
from shared.migrating import migrate
from shared.partitioning import key_of
from shared.positions import ATTEMPTS_MAX, count_starts, ensure_positions, record_attempt
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.services import Consume, Publish
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, add_tables, pain

MODULE = "tests.shared.delivery.probe"
KILLS = 5


@pytest.fixture
async def url(database: DatabaseFactory, topics: TopicFactory) -> str:
    await topics(ACTIVITY, MEMBERS, "careloop.plans", partitions=3)
    made = await database(None)
    await migrate(made, service="probe")
    await add_tables(made)
    return made


@pytest.fixture
async def watch(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


def make_stream(seed: int, count: int) -> list[PainReported]:
    """Events of 40 members, 1% of them twice, in the order in which an app sends them."""
    chance = random.Random(seed)
    members = [UUID(int=chance.getrandbits(128), version=4) for _ in range(40)]
    stream: list[PainReported] = []
    for place in range(count):
        stream.append(pain(chance.choice(members), place % 7, event_id=f"e{place}"))
        if chance.random() < 0.01:
            stream.append(stream[-1])
    return stream


def expected(stream: list[PainReported]) -> dict[UUID, list[str]]:
    """The oracle: each member's events once, in the order published."""
    result: dict[UUID, list[str]] = {}
    for event in stream:
        queue = result.setdefault(event.subject, [])
        if event.id not in queue:
            queue.append(event.id)
    return result


async def effects(watch: "asyncpg.Connection[asyncpg.Record]") -> dict[UUID, list[str]]:
    result: dict[UUID, list[str]] = {}
    for row in await watch.fetch("select member_id, event_id from effects order by effect_id"):
        result.setdefault(row["member_id"], []).append(row["event_id"])
    return result


async def all_there(watch: "asyncpg.Connection[asyncpg.Record]", stream: list[PainReported]) -> bool:
    count = await watch.fetchval("select count(*) from effects")
    wanted = len({event.id for event in stream})
    assert count >= wanted, f"{count} of {wanted}"
    return True


async def published_once(consume: Consume, stream: list[PainReported]) -> None:
    """The log may hold an event twice after a kill; a consumer that de-duplicates sees each once, in order."""
    wanted = expected(stream)
    total = sum(map(len, wanted.values()))
    seen: dict[str, list[str]] = {}
    ids: set[str] = set()
    for event in await consume("careloop.plans", count=total, distinct=True):
        if event["id"] not in ids:
            ids.add(event["id"])
            seen.setdefault(event["subject"], []).append(event["causationid"])
    assert seen == {str(member): queue for member, queue in wanted.items()}


async def feed(publish: Publish, stream: list[PainReported], *, pause_s: float) -> None:
    for start in range(0, len(stream), 50):
        await publish(ACTIVITY, *stream[start : start + 50])
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("seed", [1, 2])
async def test_kill_at_any_moment(
    seed: int,
    url: str,
    spawn_service: SpawnService,
    publish: Publish,
    consume: Consume,
    watch: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    stream = make_stream(seed, 3000)
    chance = random.Random(seed)
    service = spawn_service(MODULE, database_url=url)
    await service.start()
    feeding = asyncio.create_task(feed(publish, stream, pause_s=0.1))
    for aim in sorted(chance.sample(range(1, 2800), KILLS)):
        await eventually(partial(at_least, watch, aim), within=60)
        await service.kill()
        await service.start()
    await feeding
    await eventually(lambda: all_there(watch, stream), within=60)
    await service.settled()
    assert await effects(watch) == expected(stream)
    await published_once(consume, stream)
    assert await watch.fetchval("select count(*) from delivery.held_events") == 0
    assert await service.terminate() == 0


async def test_a_stopped_owner_is_fenced_when_it_wakes(
    url: str,
    spawn_service: SpawnService,
    publish: Publish,
    consume: Consume,
    watch: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    stream = make_stream(3, 2000)
    services: list[ServiceProcess] = [spawn_service(MODULE, database_url=url) for _ in range(2)]
    for service in services:
        await service.start()
    feeding = asyncio.create_task(feed(publish, stream[:1000], pause_s=0.05))
    await eventually(lambda: at_least(watch, 200), within=40)
    services[0].signal(signal.SIGSTOP)
    await feeding
    await eventually(lambda: all_there(watch, stream[:1000]), within=60)
    feeding = asyncio.create_task(feed(publish, stream[1000:], pause_s=0.02))
    services[0].signal(signal.SIGCONT)
    await feeding
    await eventually(lambda: all_there(watch, stream), within=60)
    for service in services:
        await service.settled()
    assert await effects(watch) == expected(stream)
    await published_once(consume, stream)


async def at_least(watch: "asyncpg.Connection[asyncpg.Record]", count: int) -> bool:
    found = await watch.fetchval("select count(*) from effects")
    assert found >= count, found
    return True


async def test_an_event_that_kills_the_process_every_time_becomes_a_dead_letter(
    url: str,
    spawn_service: SpawnService,
    publish: Publish,
    consume: Consume,
    watch: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """It costs its own member; everybody else is taken, and its red flag is raised before anything."""
    service = spawn_service("tests.shared.delivery.killing_probe", database_url=url, session_timeout_s=6)
    await service.start()
    guilty, others = uuid4(), [uuid4() for _ in range(20)]
    await publish(ACTIVITY, pain(guilty, 6, findings=("chest-pain-breathless",)), pain(guilty, 1))
    await publish(ACTIVITY, *(pain(other, 2) for other in others))

    async def condemned() -> bool:
        assert service.process
        if service.process.returncode is not None:
            await service.start()
        reasons = await watch.fetch(
            "select reason, consumer_group from delivery.held_events where state = 'dead' order by held_id"
        )
        return [tuple(row) for row in reasons] == [("kills-the-process", "probe.activity")]

    await eventually(condemned, within=100)
    await eventually(partial(at_least, watch, len(others)), within=60)
    assert set(await effects(watch)) == set(others)
    read = await consume("careloop.plans", count=len(others) + 1, distinct=True, within=40)
    # Killed before it was deleted from the outbox it is published again: the same event.
    flags = {e["id"]: e["subject"] for e in read if e["type"] == "org.careloop.safety.flagged.v1"}
    assert list(flags.values()) == [str(guilty)]


async def test_a_record_that_kills_whoever_reads_it_is_condemned_unread(
    url: str, spawn_service: SpawnService, publish: Publish, watch: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Both groups read it. It costs its own member; everybody else is taken, and who pages is told."""
    guilty, others = uuid4(), [uuid4() for _ in range(20)]
    await publish(ACTIVITY, pain(guilty, 6), *(pain(other, 2) for other in others))
    partition = key_of(guilty).hash % 3
    for group in ("probe.activity", "probe.safety"):  # as the starts before left it
        await ensure_positions(watch, group, ACTIVITY, {partition: 0})
        for _ in range(STALLED_STARTS_MAX):
            await count_starts(watch, group, ACTIVITY, [partition])
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(watch, group, ACTIVITY, partition, 0)
    service = spawn_service("tests.shared.delivery.killing_reader", database_url=url, session_timeout_s=6)
    await service.start()

    async def condemned() -> bool:
        assert service.process
        if service.process.returncode is not None:
            await service.start()
        rows = await watch.fetch("select consumer_group, reason from delivery.held_events order by consumer_group")
        wanted = [("probe.activity", "kills-the-process"), ("probe.safety", "kills-the-process")]
        return [tuple(row) for row in rows] == wanted

    await eventually(condemned, within=120)
    await eventually(partial(at_least, watch, len(others)), within=60)
    assert set(await effects(watch)) == set(others)
    queued = await watch.fetch("select consumer_group, blocks, member_id from delivery.held_events order by 1")
    assert [(row["blocks"], row["member_id"]) for row in queued] == [(True, guilty), (False, guilty)]
