"""Which step is possible from where a person stands."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.membership import (
    CONTACT_PERIOD,
    PAUSE_MAX,
    Membership,
    Status,
    clear,
    decide_intake,
    disenrol,
    next_announcement,
    pause,
    resume,
)
from shared.outcomes import Refusal

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
SPONSOR = uuid4()


def standing(status: Status, **fields: Any) -> Membership:
    in_care = status in ("enrolled", "paused")
    values: dict[str, Any] = {
        "member_id": uuid4(),
        "sponsor_id": SPONSOR,
        "person_id": "E-1",
        "status": status,
        "status_reason": "x",
        "status_since": NOW,
        "state": "NY",
        "language": "en",
        "time_zone": "America/New_York",
        "intake_id": uuid4(),
        "pt_id": uuid4() if in_care else None,
        "coach_id": uuid4() if in_care else None,
        **fields,
    }
    return Membership(**values)


STEPS = {
    "pause": lambda m: pause(membership=m, reason="holiday", until=None, now=NOW),
    "resume": lambda m: resume(membership=m, reason="back", now=NOW),
    "disenrol": lambda m: disenrol(membership=m, reason="member-left", now=NOW),
    "clear": lambda m: clear(membership=m, now=NOW),
}
POSSIBLE = {
    ("enrolled", "pause"): "paused",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "enrolled",
    ("enrolled", "disenrol"): "disenrolled",
    ("paused", "disenrol"): "disenrolled",
    ("waitlisted", "disenrol"): "disenrolled",
    ("blocked", "clear"): "cleared",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", get_args(Status))
def test_the_state_machine_is_exactly_this(status: Status, step: str) -> None:
    before = standing(status)
    after = STEPS[step](before)
    if (status, step) in POSSIBLE:
        assert isinstance(after, Membership)
        assert after.status == POSSIBLE[status, step]
        assert after.in_care == (after.pt_id is not None and after.coach_id is not None)
        assert (after.member_id, after.sponsor_id, after.person_id) == (
            before.member_id,
            before.sponsor_id,
            before.person_id,
        )
    else:
        assert isinstance(after, Refusal)


@pytest.mark.parametrize(
    ("status", "blocks", "reason"),
    [
        (None, False, None),
        (None, True, None),
        ("enrolled", False, "already-enrolled"),
        ("paused", True, "already-enrolled"),
        ("blocked", False, "screening-open"),
        ("blocked", True, None),
        ("cleared", False, None),
        ("waitlisted", False, None),
        ("disenrolled", False, None),
    ],
)
def test_who_may_take_an_intake(status: Status | None, blocks: bool, reason: str | None) -> None:
    known = None if status is None else standing(status)
    refusal = decide_intake(known=known, sponsor_id=SPONSOR, person_id="E-1", blocks=blocks)
    assert (refusal and refusal.reason) == reason


def test_a_member_id_belongs_to_one_person() -> None:
    refusal = decide_intake(known=standing("disenrolled"), sponsor_id=SPONSOR, person_id="E-2", blocks=False)
    assert refusal is not None
    assert refusal.reason == "member-is-another"


@pytest.mark.parametrize(
    ("until", "reason"),
    [(NOW, "until-in-the-past"), (NOW + PAUSE_MAX + timedelta(seconds=1), "until-too-far"), (NOW + PAUSE_MAX, None)],
)
def test_a_pause_ends_in_the_future_and_not_too_far(until: datetime, reason: str | None) -> None:
    paused = pause(membership=standing("enrolled"), reason="holiday", until=until, now=NOW)
    assert (paused.reason if isinstance(paused, Refusal) else None) == reason


@given(member_id=st.uuids())
def test_a_contact_is_announced_again_before_its_topic_forgets_it(member_id: UUID) -> None:
    due = next_announcement(member_id=member_id, after=NOW)
    assert NOW + timedelta(days=29) <= due <= NOW + CONTACT_PERIOD < NOW + timedelta(days=31)


def test_members_enrolled_in_one_hour_are_not_announced_in_one_minute() -> None:
    due = {next_announcement(member_id=UUID(int=n), after=NOW).replace(second=0) for n in range(1000)}
    assert len(due) > 500
