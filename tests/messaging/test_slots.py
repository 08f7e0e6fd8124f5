"""Free slots, right on the practitioner's wall clock on every day of the year."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.messaging.domain.slots import Span, WeeklyHours, find_slots

HALF_HOUR = timedelta(minutes=30)
ZONES = ["America/New_York", "America/Los_Angeles", "America/Phoenix", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]


def day(zone: str, of: date) -> Span:
    start = datetime.combine(of, time(0), ZoneInfo(zone))
    return Span(starts_at=start.astimezone(UTC), ends_at=(start + timedelta(days=1)).astimezone(UTC))


def slots(zone: str, of: date, starts: time, ends: time, *, taken: Sequence[Span] = ()) -> list[Span]:
    hours = [WeeklyHours(weekday=of.isoweekday(), starts_at=starts, ends_at=ends)]
    return find_slots(hours=hours, time_zone=zone, taken=taken, window=day(zone, of), length=HALF_HOUR)


def wall(zone: str, spans: list[Span]) -> list[str]:
    return [f"{span.starts_at.astimezone(ZoneInfo(zone)):%H:%M}" for span in spans]


@pytest.mark.parametrize(
    ("of", "count"),
    [(date(2026, 3, 7), 8), (date(2026, 3, 8), 6), (date(2026, 10, 31), 8), (date(2026, 11, 1), 10)],
)
def test_a_stretch_over_a_clock_change_is_as_long_as_it_is(of: date, count: int) -> None:
    assert len(slots("America/New_York", of, time(0), time(4))) == count


def test_the_hour_that_does_not_exist_is_not_offered() -> None:
    offered = wall("America/New_York", slots("America/New_York", date(2026, 3, 8), time(1), time(4)))
    assert offered == ["01:00", "01:30", "03:00", "03:30"]


def test_the_hour_that_comes_twice_is_offered_twice() -> None:
    offered = slots("America/New_York", date(2026, 11, 1), time(1), time(2))
    assert wall("America/New_York", offered) == ["01:00", "01:30", "01:00", "01:30"]
    assert [span.starts_at.hour for span in offered] == [5, 5, 6, 6]


def test_of_a_repeated_hour_only_its_working_half_is_offered() -> None:
    offered = slots("America/New_York", date(2026, 11, 1), time(0), time(1, 30))
    assert wall("America/New_York", offered) == ["00:00", "00:30", "01:00", "01:00"]
    assert [span.starts_at.hour for span in offered] == [4, 4, 5, 6], "not from 1:30 on, the first time it is shown"


def test_ten_in_the_morning_is_ten_before_and_after_the_change() -> None:
    hours = [WeeklyHours(weekday=d, starts_at=time(10), ends_at=time(10, 30)) for d in range(1, 8)]
    window = Span(starts_at=datetime(2026, 10, 29, tzinfo=UTC), ends_at=datetime(2026, 11, 5, tzinfo=UTC))
    found = find_slots(hours=hours, time_zone="America/New_York", taken=[], window=window, length=HALF_HOUR)
    assert set(wall("America/New_York", found)) == {"10:00"}
    assert len(found) == 7
    assert {span.starts_at.hour for span in found} == {14, 15}


def test_what_is_taken_is_not_offered() -> None:
    of = date(2026, 9, 7)
    free = slots("UTC", of, time(9), time(11))
    busy = Span(starts_at=datetime(2026, 9, 7, 9, 45, tzinfo=UTC), ends_at=datetime(2026, 9, 7, 10, 15, tzinfo=UTC))
    left = slots("UTC", of, time(9), time(11), taken=[busy])
    assert [span for span in free if not span.overlaps(busy)] == left
    assert wall("UTC", left) == ["09:00", "10:30"]


def _quarter(number: int) -> time:
    return time(number // 4, number % 4 * 15)


@st.composite
def weeks(draw: st.DrawFn) -> list[WeeklyHours]:
    stretches = []
    for weekday in draw(st.lists(st.integers(1, 7), min_size=1, max_size=5, unique=True)):
        starts = draw(st.integers(0, 23 * 4))
        ends = draw(st.integers(starts + 1, 24 * 4 - 1))
        stretches.append(WeeklyHours(weekday=weekday, starts_at=_quarter(starts), ends_at=_quarter(ends)))
    return stretches


@given(
    hours=weeks(),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(
        [date(2026, 3, 6), date(2026, 3, 27), date(2026, 4, 3), date(2026, 10, 2), date(2026, 10, 30)]
    ),
    length=st.sampled_from([15, 20, 30, 45, 60]),
    busy_at=st.lists(st.integers(0, 5 * 24 * 60), max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_every_slot_is_within_working_time_free_and_of_its_length(
    hours: list[WeeklyHours], zone: str, start: date, length: int, busy_at: list[int]
) -> None:
    window = Span(starts_at=day(zone, start).starts_at, ends_at=day(zone, start + timedelta(days=4)).ends_at)
    taken = [
        Span(starts_at=window.starts_at + timedelta(minutes=m), ends_at=window.starts_at + timedelta(minutes=m + 40))
        for m in busy_at
    ]
    found = find_slots(hours=hours, time_zone=zone, taken=taken, window=window, length=timedelta(minutes=length))
    by_day = {stretch.weekday: stretch for stretch in hours}
    for span in found:
        first = span.starts_at.astimezone(ZoneInfo(zone))
        stretch = by_day[first.isoweekday()]
        assert span.ends_at - span.starts_at == timedelta(minutes=length)
        for minute in range(length):
            shown = (span.starts_at + timedelta(minutes=minute)).astimezone(ZoneInfo(zone))
            assert stretch.starts_at <= shown.time() < stretch.ends_at
            assert shown.date() == first.date()
        assert not any(span.overlaps(other) for other in taken)
        assert window.starts_at <= span.starts_at
        assert span.ends_at <= window.ends_at
    assert all(a.ends_at <= b.starts_at for a, b in pairwise(found))


@given(zone=st.sampled_from(ZONES), of=st.dates(date(2026, 1, 1), date(2027, 12, 31)))
@settings(max_examples=200, deadline=None)
def test_a_plain_working_day_has_all_its_slots(zone: str, of: date) -> None:
    # Clocks change at night: nine to five is eight hours on every day of every zone here.
    assert len(slots(zone, of, time(9), time(17))) == 16
