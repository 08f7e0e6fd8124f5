"""Quiet hours: never at night, never dropped, whatever the clocks do."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.quiet_hours import defer, is_open, local_moment
from services.notifications.domain.zones import candidate_zones
from services.notifications.store.library import load_policy

POLICY = load_policy()
WINDOW = POLICY.window
NO_JITTER = timedelta(0)
NEW_YORK = ZoneInfo("America/New_York")
moments = st.integers(0, 6 * 365 * 86_400).map(lambda s: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
jitters = st.integers(0, 1199).map(lambda seconds: timedelta(seconds=seconds))
one_zone = st.sampled_from(sorted(available_timezones())).map(lambda name: (ZoneInfo(name),))
a_state = st.sampled_from(sorted(POLICY.state_zones)).map(lambda state: POLICY.state_zones[state])
zone_sets = st.one_of(one_zone, a_state, st.just(POLICY.anywhere))


def local(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@given(at=moments, zones=zone_sets, jitter=jitters)
def test_what_is_sent_is_sent_by_day_in_every_candidate_zone(at: datetime, zones: Any, jitter: timedelta) -> None:
    until = defer(at=at, zones=zones, window=WINDOW, jitter=jitter)
    for zone in zones:
        assert 8 <= until.astimezone(zone).hour < 21


@given(at=moments, zones=zone_sets, jitter=jitters)
def test_deferring_waits_for_the_next_opening_and_no_longer(at: datetime, zones: Any, jitter: timedelta) -> None:
    until = defer(at=at, zones=zones, window=WINDOW, jitter=jitter)
    assert at <= until <= at + timedelta(days=1, hours=2), "moved, never dropped"
    assert (until == at) == is_open(at=at, zones=zones, window=WINDOW)
    # Nothing before it was open, but for the jitter's spread.
    step, probe = timedelta(minutes=15), at
    while probe < until - jitter - step:
        assert not is_open(at=probe, zones=zones, window=WINDOW)
        probe += step


@given(at=moments, zones=zone_sets, jitter=jitters)
def test_deferring_again_changes_nothing(at: datetime, zones: Any, jitter: timedelta) -> None:
    until = defer(at=at, zones=zones, window=WINDOW, jitter=jitter)
    assert defer(at=until, zones=zones, window=WINDOW, jitter=jitter) == until


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-07T21:00", "2026-03-08T08:00-04:00"),  # the night that the clocks go forward
        ("2026-03-08T01:59", "2026-03-08T08:00-04:00"),
        ("2026-10-31T23:00", "2026-11-01T08:00-05:00"),  # the night that they go back
        ("2026-11-01T01:30", "2026-11-01T08:00-05:00"),
        ("2026-06-01T07:59:59", "2026-06-01T08:00-04:00"),
        ("2026-06-01T20:59:59", "2026-06-01T20:59:59-04:00"),
        ("2026-06-01T21:00", "2026-06-02T08:00-04:00"),
    ],
)
def test_nights_in_new_york(now: str, opens: str) -> None:
    until = defer(at=local(now, NEW_YORK), zones=(NEW_YORK,), window=WINDOW, jitter=NO_JITTER)
    assert until == datetime.fromisoformat(opens)


def test_the_hour_that_comes_twice_is_night_both_times() -> None:
    first = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)  # 1:30 EDT; an hour later it is 1:30 EST
    for at in (first, first + timedelta(hours=1)):
        assert (
            defer(at=at, zones=(NEW_YORK,), window=WINDOW, jitter=NO_JITTER).isoformat() == "2026-11-01T13:00:00+00:00"
        )


def test_nobody_knows_where_they_are() -> None:
    """8:00 in Honolulu is the first moment that is day everywhere from Maine to Hawaii."""
    zones = candidate_zones(time_zone="Mars/Olympus_Mons", state=None, policy=POLICY)
    assert zones == POLICY.anywhere
    until = defer(at=local("2026-01-15T09:00", NEW_YORK), zones=zones, window=WINDOW, jitter=NO_JITTER)
    assert until == local("2026-01-15T08:00", ZoneInfo("Pacific/Honolulu"))


def test_a_state_with_two_zones_narrows_the_day() -> None:
    zones = candidate_zones(time_zone=None, state="TN", policy=POLICY)
    assert defer(at=local("2026-01-15T08:30", NEW_YORK), zones=zones, window=WINDOW, jitter=NO_JITTER) == local(
        "2026-01-15T09:00", NEW_YORK
    )


def test_the_members_own_zone_wins_over_the_state() -> None:
    zones = candidate_zones(time_zone="America/Los_Angeles", state="NY", policy=POLICY)
    assert zones == (ZoneInfo("America/Los_Angeles"),)


@pytest.mark.parametrize("name", ["", "..", "America", "/etc/passwd", "Nowhere/Land"])
def test_a_name_that_is_no_zone_is_unknown(name: str) -> None:
    assert candidate_zones(time_zone=name, state="CA", policy=POLICY) == POLICY.state_zones["CA"]


def test_the_library_covers_every_state_and_each_has_a_day() -> None:
    assert len(POLICY.state_zones) == 53, "fifty states, DC, Puerto Rico, Virgin Islands"
    midsummer, midwinter = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    for zones in (*POLICY.state_zones.values(), POLICY.anywhere):
        for start in (midsummer, midwinter):
            quarters = [start + timedelta(minutes=15 * count) for count in range(96)]
            open_quarters = sum(is_open(at=at, zones=zones, window=WINDOW) for at in quarters)
            assert open_quarters >= 4 * 7, "at least seven hours of a day"


def test_zones_that_share_no_hour_are_an_error_and_not_a_night_call() -> None:
    with pytest.raises(ValueError, match="share no hour"):
        defer(
            at=datetime(2026, 1, 1, tzinfo=UTC),
            zones=(ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Etc/GMT+2"), ZoneInfo("Asia/Dubai")),
            window=WINDOW,
            jitter=NO_JITTER,
        )


def test_a_wall_clock_time_that_is_skipped_still_has_a_moment() -> None:
    moment = local_moment(on=date(2026, 3, 8), at=time(2, 30), zone=NEW_YORK)
    assert moment == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)
