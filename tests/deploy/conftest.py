"""`log`: all topics, of one partition each; `books`: of a service that took them and has ended."""

from uuid import uuid4

import pytest

from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.events.catalogue import TOPICS
from tests.deploy.given_books import ACTIVITY, NOT_AN_EVENT, Books, ago, join
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunService, member_key
from tests.fixtures.topics import TopicFactory
from tests.journeys.events import session


@pytest.fixture
async def log(topics: TopicFactory) -> None:
    await topics(*(topic.name for topic in TOPICS), partitions=1)


@pytest.fixture
async def books(
    servers: RunningServers, namespace: str, log: None, database: DatabaseFactory, run_service: RunService,
    publish: Publish,
) -> Books:  # fmt: skip
    """Of a service that has ended: two members who train, one of them parked behind a dead letter, and one who waits
    to be enrolled. Each topic has one partition."""
    url = await database("plans")
    one, two, stranger = uuid4(), uuid4(), uuid4()
    async with run_service(build, PlansSettings, name="plans", database_url=url) as running:
        await join(publish, one, two)
        await running.settled()
        await publish(ACTIVITY, session(one, 1, pain=3, at=ago(5)), session(two, 1, pain=3, at=ago(5)))
        await publish.raw(ACTIVITY, NOT_AN_EVENT, key=member_key(two))
        await publish(ACTIVITY, session(two, 2, pain=3, at=ago(4)))
        await publish(ACTIVITY, session(stranger, 1, pain=3, at=ago(4)))
        await running.settled()
    return Books(servers, namespace, url)
