"""`clinic`: a running enrollment service with a sponsor; `open_clinic`: with people whom it covers and a care team."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.enrollment.clinic import Clinic, roster
from tests.enrollment.clinic import open_clinic as opened
from tests.fixtures.services import RunService
from tests.fixtures.tokens import Tokens


@pytest.fixture
async def clinic(run_service: RunService, tokens: Tokens, topics: Any) -> AsyncIterator[Clinic]:
    async with opened(run_service, tokens) as running:
        yield running


@pytest.fixture
async def open_clinic(clinic: Clinic) -> Clinic:
    """The clinic with three covered people, one PT and one coach."""
    await clinic.import_roster(roster("E-1", "E-2", "E-3"))
    await clinic.add_practitioner("pt", name="Petra Therapist")
    await clinic.add_practitioner("coach", name="Cora Coach")
    return clinic
