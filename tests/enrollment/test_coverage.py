"""Whether a person is covered at a moment."""

from datetime import UTC, date, datetime, timedelta
from typing import get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.coverage import (
    Coverage,
    Eligibility,
    EligibilityReason,
    Sponsor,
    decide_eligibility,
    ends_at,
)

BORN = date(1980, 5, 17)
SPONSOR = Sponsor(
    sponsor_id=uuid4(), name="Mills", states=("NJ", "NY"), covers_from=date(2026, 1, 1), covers_until=date(2026, 12, 31)
)
DAYS = st.dates(date(2025, 6, 1), date(2027, 6, 1))


def cover(starts: date = date(2026, 2, 1), ends: date | None = date(2026, 6, 30), state: str = "NY") -> Coverage:
    return Coverage(
        sponsor_id=SPONSOR.sponsor_id,
        person_id="E-1",
        date_of_birth=BORN,
        state=state,
        effective_from=starts,
        effective_to=ends,
    )


def decide(
    at: datetime, coverage: Coverage | None = None, *, state: str | None = None, born: date = BORN
) -> Eligibility:
    return decide_eligibility(sponsor=SPONSOR, coverage=coverage or cover(), date_of_birth=born, state=state, now=at)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (datetime(2025, 12, 31, 23, 59, tzinfo=UTC), "sponsor-not-started"),
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "coverage-not-started"),
        (datetime(2026, 2, 1, tzinfo=UTC), "covered"),
        (datetime(2026, 7, 1, 11, 59, tzinfo=UTC), "covered"),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), "coverage-ended"),
        (datetime(2027, 1, 1, 12, tzinfo=UTC), "sponsor-ended"),
    ],
)
def test_each_reason_at_its_edge(at: datetime, reason: str) -> None:
    assert decide(at).reason == reason
    assert decide(at).eligible == (reason == "covered")


def test_the_last_day_is_whole_in_every_us_zone() -> None:
    for zone in ("America/New_York", "Pacific/Honolulu", "Pacific/Pago_Pago"):
        evening = datetime(2026, 6, 30, 23, 59, tzinfo=ZoneInfo(zone))
        assert decide(evening.astimezone(UTC)).eligible, zone


def test_the_state_where_one_lives_now_counts_before_the_rosters() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert decide(now, cover(state="CA")).reason == "state-not-served"
    assert decide(now, cover(state="CA"), state="NJ").reason == "covered"
    assert decide(now, state="CA").reason == "state-not-served"


def test_another_date_of_birth_answers_as_if_nobody_were_there() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    nobody = decide_eligibility(sponsor=SPONSOR, coverage=None, date_of_birth=BORN, state=None, now=now)
    assert decide(now, born=date(1980, 5, 18)) == nobody
    assert nobody.effective_from is None


def test_an_unknown_sponsor() -> None:
    found = decide_eligibility(
        sponsor=None, coverage=cover(), date_of_birth=BORN, state=None, now=datetime(2026, 3, 1, tzinfo=UTC)
    )
    assert (found.eligible, found.reason) == (False, "sponsor-unknown")


@given(starts=DAYS, length=st.none() | st.integers(-1, 400), day=DAYS, hour=st.integers(0, 23))
def test_covered_exactly_between_the_later_start_and_the_earlier_end(
    starts: date, length: int | None, day: date, hour: int
) -> None:
    ends = None if length is None else starts + timedelta(days=length)
    at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    found = decide(at, cover(starts, ends))
    first, last = max(starts, SPONSOR.covers_from), min(ends or date.max, SPONSOR.covers_until or date.max)
    assert found.eligible == (first <= day and at < ends_at(last))
    assert found.reason in get_args(EligibilityReason)
    assert (found.effective_from, found.effective_to) == (first, last)
