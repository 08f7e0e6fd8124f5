"""`clinic`: four services, a mailbox, a sponsor with its roster and two clinicians."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.events.catalogue import TOPICS
from tests.fixtures.services import RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.journeys.clinic import Clinic, open_clinic


@pytest.fixture
async def clinic(
    run_service: RunService, tokens: Tokens, topics: TopicFactory, tmp_path: Path
) -> AsyncIterator[Clinic]:
    await topics(*(topic.name for topic in TOPICS), partitions=2)
    async with open_clinic(run_service, tokens, tmp_path) as opened:
        yield opened
