"""`clinic`: the running service, with one member and their care team."""

from collections.abc import AsyncIterator

import pytest

from services.messaging.main import build
from services.messaging.settings import MessagingSettings
from shared.clock import wall_now
from shared.events.catalogue import TOPICS
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.messaging.given import (
    MEMBER,
    contact,
    enrolled,
    team_assigned,
)
from tests.messaging.service.clinic import Clinic


@pytest.fixture
async def clinic(
    run_service: RunService, publish: Publish, topics: TopicFactory, tokens: Tokens
) -> AsyncIterator[Clinic]:
    await topics(*(topic.name for topic in TOPICS), partitions=1)
    async with run_service(build, MessagingSettings, name="messaging") as running:
        await publish("careloop.members", enrolled(at=wall_now()), team_assigned(at=wall_now()))
        await publish("careloop.contacts", contact(at=wall_now()))
        clinic = Clinic(running, tokens, publish)

        async def known() -> bool:
            answer = await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=clinic.coach)
            named = await running.service.database.fetchval("select count(*) from member_contacts")
            return answer.status_code == 200 and named == 1

        await eventually(known, what="the care team and the name are known")
        yield clinic
