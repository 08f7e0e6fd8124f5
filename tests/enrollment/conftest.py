"""`clinic`: a running enrollment service with a sponsor."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.enrollment.clinic import Clinic, open_clinic
from tests.fixtures.services import RunService
from tests.fixtures.tokens import Tokens


@pytest.fixture
async def clinic(run_service: RunService, tokens: Tokens, topics: Any) -> AsyncIterator[Clinic]:
    async with open_clinic(run_service, tokens) as running:
        yield running
