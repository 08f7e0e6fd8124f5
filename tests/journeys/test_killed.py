"""Given members who train, when each service is killed in turn, then the books of all of them add up with the log."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from deploy.reconciliation.reconcile import Report, reconcile
from shared.clock import WallClock
from shared.events.catalogue import TOPICS
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.fixtures.topics import TopicFactory
from tests.journeys.events import joining, session

pytestmark = pytest.mark.timeout(240)
SERVICES = ("plans", "messaging", "notifications")
MEMBERS, ROUNDS = 12, 9
PT, COACH = uuid4(), uuid4()


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailSink]:
    async with MailSink(MailSinkSettings(data=tmp_path, port=0, smtp_port=0)) as sink:
        yield sink


async def check(servers: RunningServers, namespace: str, databases: dict[str, str]) -> Report:
    return await reconcile(
        bootstrap=servers.kafka_bootstrap, namespace=namespace, databases=databases, clock=WallClock(),
        progress=lambda _: None,
    )  # fmt: skip


async def publish_round(publish: Publish, members: list[UUID], number: int, chance: random.Random) -> int:
    """Everybody trains once, some sessions come twice; in the first round before enrollment's events are there."""
    start = datetime.now(UTC) - timedelta(days=20)
    for place, member in enumerate(members):
        at = start + timedelta(days=2 * number, minutes=place)
        event = session(member, number, pain=chance.choice((2, 3, 3, 8)), at=at)
        await publish("careloop.activity", *[event] * chance.choice((1, 1, 2)))
        if number == 0:
            for topic, joined in joining(member, pt=PT, coach=COACH, at=start):
                await publish(topic, joined)
    return len(members)


async def records_read(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        read: int = await connection.fetchval("select coalesce(sum(records_read), 0)::int from delivery.positions")
        return read
    finally:
        await connection.close()


async def has_read(url: str, more_than: int) -> bool:
    return await records_read(url) > more_than


async def test_the_books_add_up_after_each_service_was_killed(
    servers: RunningServers, namespace: str, topics: TopicFactory, database: DatabaseFactory,
    spawn_service: SpawnService, publish: Publish, mail: MailSink,
) -> None:  # fmt: skip
    await topics(*(topic.name for topic in TOPICS), partitions=2)
    databases = {name: await database(name) for name in SERVICES}
    processes: dict[str, ServiceProcess] = {
        name: spawn_service(f"services.{name}.main", database_url=url, smtp_port=mail.smtp_port)
        for name, url in databases.items()
    }
    for process in processes.values():
        await process.start()
    members, chance, published = [uuid4() for _ in range(MEMBERS)], random.Random(5), 0
    for number in range(ROUNDS):
        name = SERVICES[number % len(SERVICES)]
        before = await records_read(databases[name])
        published += await publish_round(publish, members, number, chance)
        await eventually(partial(has_read, databases[name], before), what=f"{name} works on round {number}")
        await processes[name].kill()
        await processes[name].start()
    for _ in range(2):
        for process in processes.values():
            await process.settled(within=90)

    report = await check(servers, namespace, databases)
    assert report.ok, (report.problems, [line for line in report.lines if line.problems])
    plans = await asyncpg.connect(databases["plans"])
    try:
        issued = await plans.fetchval("select count(*) from care_plans where member_id = any($1::uuid[])", members)
        new = await plans.fetchval(
            "select sum(records_new + records_waiting + records_parked) from delivery.positions"
            " where consumer_group = 'plans.activity'"
        )
        assert (issued, new) == (MEMBERS, published)
        assert await plans.fetchval("select count(*) from delivery.held_events") == 0

        await plans.execute("delete from delivery.inbox where identity = (select identity from delivery.inbox limit 1)")
        await plans.execute(
            "update delivery.positions set records_new = records_new + 1"
            " where consumer_group = 'plans.safety' and partition = 0"
        )
    finally:
        await plans.close()
    broken = await check(servers, namespace, databases)
    told = [problem for line in broken.lines for problem in line.problems]
    assert any("not in the inbox" in problem for problem in told), told
    assert any("add up to" in problem for problem in told), told
