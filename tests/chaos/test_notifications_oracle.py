"""How each notification must have ended."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.chaos.findings import Findings
from tests.chaos.notifications_oracle import judge_ends

NOW = datetime(2026, 11, 19, tzinfo=UTC)
PAGE: dict[str, Any] = {
    "notification_id": UUID(int=1), "topic": "safety-page", "about": "alert", "state": "planned", "attempts": 1,
    "not_before": NOW + timedelta(minutes=1), "cause": {"source": "urn:careloop:messaging", "id": "1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "mailed", "is_right"),
    [
        ({}, 0, True),
        ({}, 1, True),
        ({}, 2, False),
        ({"attempts": 0}, 0, False),
        ({"not_before": NOW - timedelta(minutes=1)}, 1, False),
        ({"topic": "session-reminder"}, 1, False),
    ],
)
def test_a_page_of_which_nobody_knows_may_wait_for_its_next_attempt(
    changed: dict[str, Any], mailed: int, is_right: bool
) -> None:
    """Clinic time stands still while a run is judged: what is due a minute later is not sent any more."""
    findings = Findings()
    judge_ends([PAGE | changed], [], Counter({str(UUID(int=1)): mailed}), findings, enders={}, now=NOW)
    assert (not findings.found) == is_right
