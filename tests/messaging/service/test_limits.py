"""What lies at the ends of what a number or a time can be is answered as what it is, and is no failure of ours."""

from typing import Any

import pytest

from tests.messaging.given import COACH, MEMBER
from tests.messaging.service.clinic import Clinic

WITH = str(COACH.practitioner_id)
SLOTS = f"/v1/members/{MEMBER}/slots?practitioner_id={WITH}"
FIRST, LAST = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/v1/members/{MEMBER}/messages?after={2**31}", None),
        ("GET", f"/v1/members/{MEMBER}/chain?correlationid=%00", None),
        ("GET", f"{SLOTS}&from={LAST}", None),
        ("GET", f"{SLOTS}&from=9999-12-30T00:00:00Z", None),
        ("GET", f"{SLOTS}&from={FIRST.replace('+', '%2B')}", None),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": WITH, "starts_at": LAST}),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": WITH, "starts_at": FIRST}),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": WITH, "starts_at": "9999-12-31T23:59:59Z"}),
        ("POST", "/v1/me/absences", {"starts_at": FIRST, "ends_at": LAST}),
    ],
)
async def test_what_lies_at_the_ends_is_answered(clinic: Clinic, method: str, path: str, body: Any) -> None:
    answer = await clinic.ask(method, path, token=clinic.coach, json=body)
    assert answer.status_code == 422, answer.text
