"""`plans`: the service on the real broker and database."""

from collections.abc import AsyncIterator

import pytest

from services.plans.main import build
from services.plans.settings import PlansSettings
from tests.fixtures.services import RunningService, RunService
from tests.fixtures.topics import TopicFactory


@pytest.fixture
async def plans(run_service: RunService, topics: TopicFactory) -> AsyncIterator[RunningService]:
    await topics("careloop.members", "careloop.activity", "careloop.plans", "careloop.visits")
    async with run_service(build, PlansSettings, name="plans") as running:
        yield running
