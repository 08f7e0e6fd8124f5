"""Session reminders: at the member's own time, spread, once a planned day, not for a day that is done."""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.jitter import jitter_of
from services.notifications.domain.session_reminders import SessionReminder, SessionSchedule, next_session_reminder
from services.notifications.store.library import load_policy

POLICY = load_policy()
ANA = UUID("00000000-0000-4000-8000-0000000000a1")
CHICAGO, NEW_YORK = ZoneInfo("America/Chicago"), ZoneInfo("America/New_York")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MONDAY = date(2026, 3, 2)
zones = st.sampled_from([CHICAGO, NEW_YORK, ZoneInfo("Pacific/Honolulu"), ZoneInfo("America/Puerto_Rico")])
moments = st.integers(0, 6 * 365 * 86_400).map(lambda s: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
weekdays = st.sets(st.integers(1, 7), min_size=1).map(lambda days: tuple(sorted(days)))


def remind(
    *,
    days: tuple[int, ...] = (1, 3, 5),
    at: time = time(18, 0),
    zone: ZoneInfo = CHICAGO,
    now: datetime,
    member_id: UUID = ANA,
    since: datetime = LONG_AGO,
    reminded_on: date | None = None,
    done_on: date | None = None,
    not_before: datetime | None = None,
) -> SessionReminder | None:
    return next_session_reminder(
        schedule=SessionSchedule(weekdays=days, local_time=at, since=since),
        zone=zone,
        member_id=member_id,
        reminded_on=reminded_on,
        done_on=done_on,
        not_before=not_before,
        now=now,
        policy=POLICY,
    )


def in_chicago(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=CHICAGO)


@given(member_id=st.uuids())
def test_jitter_is_from_nought_to_twenty_minutes_and_always_the_same(member_id: UUID) -> None:
    jitter = jitter_of(member_id=member_id, up_to=timedelta(minutes=20))
    assert timedelta(0) <= jitter < timedelta(minutes=20)
    assert jitter == jitter_of(member_id=member_id, up_to=timedelta(minutes=20))
    assert jitter_of(member_id=member_id, up_to=timedelta(0)) == timedelta(0)


def test_jitter_spreads_a_herd_evenly() -> None:
    """10,000 members at one local time: no second of the twenty minutes has more than 25 of them (8.3 on average)."""
    herd = [jitter_of(member_id=UUID(int=number << 64), up_to=timedelta(minutes=20)) for number in range(10_000)]
    busiest = Counter(herd).most_common(1)[0][1]
    assert busiest <= 25
    minutes = Counter(int(jitter.total_seconds() // 60) for jitter in herd)
    assert min(minutes.values()) > 400, "500 a minute on average"


@given(days=weekdays, at=st.times(), zone=zones, now=moments, member_id=st.uuids())
def test_a_reminder_is_on_a_planned_day_by_day_within_twenty_minutes(
    days: tuple[int, ...], at: time, zone: ZoneInfo, now: datetime, member_id: UUID
) -> None:
    at = at.replace(second=0, microsecond=0)
    reminder = remind(days=days, at=at, zone=zone, now=now, member_id=member_id)
    assert reminder is not None
    local = reminder.due_at.astimezone(zone)
    assert local.date() == reminder.planned_on
    assert reminder.planned_on.isoweekday() in days
    assert 8 <= local.hour < 21, "a reminder is never made for the night"
    assert reminder.due_at < reminder.stale_at
    assert reminder.stale_at > now
    assert reminder.stale_at.astimezone(zone).date() <= reminder.planned_on + timedelta(days=1)
    if time(8) <= at <= time(20, 40):
        nominal = datetime.combine(reminder.planned_on, at, tzinfo=zone)
        assert timedelta(0) <= reminder.due_at - nominal < timedelta(minutes=20)


@given(days=weekdays, zone=zones, now=moments)
def test_each_planned_day_is_reminded_of_once(days: tuple[int, ...], zone: ZoneInfo, now: datetime) -> None:
    reminded_on, seen = None, []
    for _ in range(10):
        reminder = remind(days=days, zone=zone, now=now, reminded_on=reminded_on)
        assert reminder is not None
        seen.append(reminder.planned_on)
        reminded_on, now = reminder.planned_on, max(now, reminder.due_at)
    expected = [day for day in (seen[0] + timedelta(days=n) for n in range(80)) if day.isoweekday() in days]
    assert seen == expected[:10], "no planned day twice, none left out"


@given(zone=zones, now=moments)
def test_a_day_that_is_done_is_not_reminded_of(zone: ZoneInfo, now: datetime) -> None:
    first = remind(days=(1, 2, 3, 4, 5, 6, 7), zone=zone, now=now)
    assert first is not None
    then = remind(days=(1, 2, 3, 4, 5, 6, 7), zone=zone, now=now, done_on=first.planned_on)
    assert then is not None
    assert then.planned_on == first.planned_on + timedelta(days=1)


@pytest.mark.parametrize(
    ("planned", "earliest"), [("05:30", "08:00"), ("08:00", "08:00"), ("13:00", "13:00"), ("22:00", "20:40")]
)
def test_a_time_at_night_moves_to_the_nearest_edge_of_the_same_day(planned: str, earliest: str) -> None:
    reminder = remind(at=time.fromisoformat(planned), now=in_chicago("2026-03-02T00:01"))
    assert reminder is not None
    assert reminder.planned_on == MONDAY
    spread = reminder.due_at - in_chicago(f"2026-03-02T{earliest}")
    assert spread == jitter_of(member_id=ANA, up_to=timedelta(minutes=20))


def test_a_service_that_was_down_an_hour_still_reminds_and_one_that_was_down_a_day_does_not() -> None:
    late = remind(now=in_chicago("2026-03-02T19:30"))
    assert late is not None
    assert late.planned_on == MONDAY
    too_late = remind(now=in_chicago("2026-03-03T09:00"))
    assert too_late is not None
    assert too_late.planned_on == date(2026, 3, 4)


def test_a_plan_made_in_the_evening_does_not_remind_of_that_afternoon() -> None:
    made = in_chicago("2026-03-02T19:00")
    reminder = remind(now=made, since=made)
    assert reminder is not None
    assert reminder.planned_on == date(2026, 3, 4)


def test_a_pause_ends_when_it_says() -> None:
    reminder = remind(now=in_chicago("2026-03-02T08:00"), not_before=in_chicago("2026-03-05T12:00"))
    assert reminder is not None
    assert reminder.planned_on == date(2026, 3, 6)


def test_the_wall_clock_time_stays_through_a_clock_change() -> None:
    before = remind(days=(7,), at=time(9), zone=NEW_YORK, now=datetime(2026, 3, 1, 6, tzinfo=UTC))
    after = remind(days=(7,), at=time(9), zone=NEW_YORK, now=datetime(2026, 3, 8, 6, tzinfo=UTC))
    assert before is not None
    assert after is not None
    assert after.due_at - before.due_at == timedelta(days=7, hours=-1)
