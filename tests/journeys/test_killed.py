"""Given members who train, when each service is killed in turn, then the books of all of them add up with the log."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
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
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.fixtures.topics import TopicFactory
from tests.journeys.events import joining, session

pytestmark = pytest.mark.timeout(240)
SERVICES = ("plans", "messaging", "notifications")
MEMBERS, ROUNDS = 12, 8


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailSink]:
    async with MailSink(MailSinkSettings(data=tmp_path, port=0, smtp_port=0)) as sink:
        yield sink


async def check(servers: RunningServers, namespace: str, databases: dict[str, str]) -> Report:
    return await reconcile(
        bootstrap=servers.kafka_bootstrap, namespace=namespace, databases=databases, clock=WallClock(),
        progress=lambda _: None,
    )  # fmt: skip


async def publish_lives(publish: Publish) -> tuple[list[UUID], int]:
    """Members join and train in rounds, with sessions that come before the plan is known, and some that come twice."""
    chance, start = random.Random(5), datetime.now(UTC) - timedelta(days=20)
    members = [uuid4() for _ in range(MEMBERS)]
    pt, coach, published = uuid4(), uuid4(), 0
    for number in range(ROUNDS):
        for place, member in enumerate(members):
            at = start + timedelta(days=2 * number, minutes=place)
            event = session(member, number, pain=chance.choice((2, 3, 3, 8)), at=at)
            await publish("careloop.activity", *[event] * chance.choice((1, 1, 2)))
            published += 1
            if number == 0:
                for topic, joined in joining(member, pt=pt, coach=coach, at=start):
                    await publish(topic, joined)
        await asyncio.sleep(0.3)
    return members, published


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
    lives = asyncio.create_task(publish_lives(publish))
    while not lives.done():
        for process in processes.values():
            await asyncio.sleep(1.0)
            await process.kill()
            await process.start()
    members, published = await lives
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
