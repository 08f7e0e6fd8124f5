"""Given members who enrol and train, when each service is killed in turn, then their books add up with the log."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from deploy.local.issuer.keys import load_client_secret
from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from deploy.local.ports import choose_port
from deploy.local.stack import StackService
from deploy.reconciliation.reconcile import reconcile
from deploy.simulator.access import Access, open_access
from deploy.simulator.clinic import prepare_clinic
from deploy.simulator.intakes import intake_body
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Cohort, Member, population
from shared.clock import WallClock
from shared.events import SessionCompleted
from shared.events.catalogue import TOPICS
from shared.events.codec import encode
from tests.deploy.given_stack import write_stack
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.fixtures.topics import TopicFactory
from tests.journeys.events import session
from tests.journeys.reading import read_topic

pytestmark = pytest.mark.timeout(300)
SERVICES = ("enrollment", "plans", "messaging", "notifications")
KILLS_EACH, COME_AT_ONCE = 3, 4
ROUNDS = KILLS_EACH * len(SERVICES)
TODAY = datetime.now(UTC).date()
COHORT = Cohort(seed=5, members=40, days=20, starts_on=TODAY - timedelta(days=20))
PEOPLE = [person for person in population(COHORT, load_parameters()) if person.starts][: KILLS_EACH * COME_AT_ONCE]
"""Who all will be enrolled, some at each kill of enrollment."""
WORK_DONE = dict.fromkeys(SERVICES, "select coalesce(sum(records_read), 0)::int from delivery.positions") | {
    "enrollment": "select count(*)::int from memberships"
}


@dataclass
class World:
    """Four services as processes, their databases, and whoever uses them."""

    processes: dict[str, ServiceProcess]
    databases: dict[str, str]
    access: Access
    publish: Publish
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    joined: list[Member] = field(default_factory=list)
    trained: set[str] = field(default_factory=set)
    """Ids of all sessions that were accepted."""

    async def ask(self, service: str, query: str, *values: Any) -> Any:
        """One value of a service's database."""
        connection = await asyncpg.connect(self.databases[service])
        try:
            return await connection.fetchval(query, *values)
        finally:
            await connection.close()

    async def has_worked(self, service: str, more_than: int) -> bool:
        return bool(await self.ask(service, WORK_DONE[service]) > more_than)

    async def enrol(self, person: Member) -> None:
        """As the person's app does it: again with the same key until there is an answer."""
        headers = await self.access.as_member(person.member_id) | {"Idempotency-Key": str(person.index)}
        body = intake_body(person, joins_on=TODAY)
        answer = (await self.access.ask("POST", "enrollment", "/v1/intakes", headers=headers, json=body)).json()
        assert (answer["outcome"], answer["member_id"]) == ("enrolled", str(person.member_id))

    async def post(self, event: SessionCompleted) -> None:
        headers = await self.access.as_member(event.subject) | {"Content-Type": "application/cloudevents+json"}
        await self.access.ask("POST", "plans", "/v1/events", headers=headers, content=encode(event))

    async def train(self, people: list[Member], number: int) -> None:
        """Everybody trains once, by Kafka or by HTTP; some sessions come twice."""
        for place, person in enumerate(people):
            at = datetime.now(UTC) - timedelta(days=ROUNDS - number, minutes=place)
            event = session(person.member_id, number, pain=self.chance.choice((2, 3, 3, 8)), at=at)
            self.trained.add(event.id)
            for _ in range(self.chance.choice((1, 1, 2))):
                if self.chance.random() < 0.5:
                    await self.publish("careloop.activity", event)
                else:
                    await self.post(event)

    async def settled(self) -> None:
        for _ in range(2):
            for process in self.processes.values():
                await process.settled(within=90)


@asynccontextmanager
async def open_world(
    servers: RunningServers, namespace: str, databases: dict[str, str], spawn_service: SpawnService, publish: Publish,
    folder: Path,
) -> AsyncIterator[World]:  # fmt: skip
    """With a clinic that covers everybody and has staff."""
    issuer_port, issuer_data = choose_port(), folder / "issuer"
    issuer = spawn_service("deploy.local.issuer", database_url="", issuer_data=issuer_data, issuer_port=issuer_port)
    issuer_url = f"http://127.0.0.1:{issuer_port}"
    issuer_data.mkdir()
    load_client_secret(issuer_data)
    async with MailSink(MailSinkSettings(data=folder / "mail", port=0, smtp_port=0)) as mail:
        processes = {
            name: spawn_service(
                f"services.{name}.main", database_url=url, smtp_port=mail.smtp_port, oidc_issuer=issuer_url
            )
            for name, url in databases.items()
        }
        for process in (issuer, *processes.values()):
            await process.start()
        urls = {name: f"http://127.0.0.1:{process.port}" for name, process in processes.items()}
        stack = write_stack(
            folder, servers=servers, namespace=namespace, databases={}, issuer_url=issuer_url, issuer_data=issuer_data,
            services={name: StackService(url=url, database_url=databases[name]) for name, url in urls.items()},
        )  # fmt: skip
        async with open_access(stack) as access:
            await prepare_clinic(access, members=PEOPLE, now=datetime.now(UTC))
            yield World(processes, databases, access, publish)


async def kill_enrollment(world: World, newcomers: list[Member]) -> None:
    """Killed while people enrol: one has been taken, one is on the way, one asks while nobody is there."""
    process, before = world.processes["enrollment"], await world.ask("enrollment", WORK_DONE["enrollment"])
    async with asyncio.TaskGroup() as asking:
        for person in newcomers[:2]:
            asking.create_task(world.enrol(person))
        await eventually(partial(world.has_worked, "enrollment", before), what="somebody is enrolled")
        asking.create_task(world.enrol(newcomers[2]))
        await process.kill()
        late = asking.create_task(world.enrol(newcomers[3]))
        assert await process.get("/health/live") == {"error": "ConnectError"}
        assert not late.done()
        await process.start()
    world.joined += newcomers


async def kill(world: World, name: str, number: int) -> None:
    """Killed while it works on what everybody did."""
    before = await world.ask(name, WORK_DONE[name])
    async with asyncio.TaskGroup() as training:
        training.create_task(world.train(world.joined, number))
        await eventually(partial(world.has_worked, name, before), what=f"{name} works on round {number}")
        await world.processes[name].kill()
        await world.processes[name].start()


async def test_the_books_add_up_after_each_service_was_killed(
    servers: RunningServers, namespace: str, topics: TopicFactory, database: DatabaseFactory,
    spawn_service: SpawnService, publish: Publish, tmp_path: Path,
) -> None:  # fmt: skip
    await topics(*(topic.name for topic in TOPICS), partitions=2)
    databases = {name: await database(name) for name in SERVICES}
    async with open_world(servers, namespace, databases, spawn_service, publish, tmp_path) as world:
        waiting = iter(PEOPLE)
        for number in range(ROUNDS):
            name = SERVICES[number % len(SERVICES)]
            if name == "enrollment":
                newcomers = [next(waiting) for _ in range(COME_AT_ONCE)]
                await world.train(newcomers[:1], number)  # before anybody knows them: it waits
                await kill_enrollment(world, newcomers)
            else:
                await kill(world, name, number)
        await world.settled()
        assert [process.kills for process in world.processes.values()] == [KILLS_EACH] * len(SERVICES)

        report = await reconcile(
            bootstrap=servers.kafka_bootstrap, namespace=namespace, databases=databases, clock=WallClock(),
            progress=lambda _: None,
        )  # fmt: skip
        assert report.ok, (report.problems, [line for line in report.lines if line.problems])
        await assert_everybody_is_there_once(world, servers, namespace)


async def assert_everybody_is_there_once(world: World, servers: RunningServers, namespace: str) -> None:
    """Whoever was told so is enrolled, in every service; each session took effect once."""
    members = [person.member_id for person in PEOPLE]
    for service, table in (
        ("enrollment", "memberships"), ("enrollment", "intakes"), ("plans", "care_plans"),
    ):  # fmt: skip
        assert await world.ask(service, f"select array_agg(member_id order by member_id) from {table}") == sorted(
            members
        )
    published = await read_topic(servers, namespace, "careloop.members")
    enrolled = {event["id"]: event["subject"] for event in published if event["type"].endswith("member.enrolled.v1")}
    assert sorted(enrolled.values()) == sorted(map(str, members))

    taken = "select sum(records_new + records_waiting + records_parked)::int from delivery.positions"
    assert await world.ask("plans", f"{taken} where consumer_group = 'plans.activity'") == len(world.trained)
    shown = "select count(distinct event_id) from timeline where event_type = 'session.completed'"
    assert await world.ask("messaging", shown) == len(world.trained)
    for service in SERVICES:
        assert await world.ask(service, "select count(*) from delivery.held_events") == 0
    for person in PEOPLE:
        path, headers = f"/v1/members/{person.member_id}/plan", await world.access.as_member(person.member_id)
        plan = orjson.loads((await world.access.ask("GET", "plans", path, headers=headers)).content)
        assert plan["items"]
