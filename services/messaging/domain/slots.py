"""When a practitioner can be met: weekly hours on their own wall clock, less what is taken; DST-correct."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@dataclass(frozen=True, kw_only=True, slots=True)
class WeeklyHours:
    """A stretch of working time on one weekday (1 Monday - 7 Sunday), on the practitioner's wall clock."""

    weekday: int
    starts_at: time
    ends_at: time


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """From `starts_at` up to, not including, `ends_at`; both UTC."""

    starts_at: datetime
    ends_at: datetime

    def overlaps(self, other: "Span") -> bool:
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def is_time_zone(*, name: str) -> bool:
    """Whether the time zone database knows this IANA name."""
    return name in _zone_names()


def find_slots(
    *, hours: Sequence[WeeklyHours], time_zone: str, taken: Sequence[Span], window: Span, length: timedelta
) -> list[Span]:
    """Free slots that lie within `window`, in order, of exactly `length`.

    Slots start at the beginning of each stretch of working time and follow each other. Where the clock is put forward
    the stretch is shorter by the hour that does not exist; where it is put back, longer by the one that comes twice; a
    slot never starts or ends outside the working time as the wall clock shows it.
    """
    zone = ZoneInfo(time_zone)
    busy = sorted(taken, key=lambda span: span.starts_at)
    day = window.starts_at.astimezone(zone).date()
    last_day = window.ends_at.astimezone(zone).date()
    free: list[Span] = []
    while day <= last_day:
        for stretch in hours:
            if stretch.weekday == day.isoweekday():
                free += [
                    slot
                    for slot in _cut(day=day, stretch=stretch, zone=zone, length=length)
                    if window.starts_at <= slot.starts_at
                    and slot.ends_at <= window.ends_at
                    and not any(slot.overlaps(span) for span in busy)
                ]
        day += timedelta(days=1)
    return sorted(free, key=lambda span: span.starts_at)


def _cut(*, day: date, stretch: WeeklyHours, zone: ZoneInfo, length: timedelta) -> list[Span]:
    # fold=0 reads an hour that comes twice as its first time and one that does not exist as after the gap; fold=1 the
    # second time and before the gap: the stretch is then the longest that its wall-clock times can mean.
    starts = datetime.combine(day, stretch.starts_at, zone).replace(fold=0).astimezone(UTC)
    ends = datetime.combine(day, stretch.ends_at, zone).replace(fold=1).astimezone(UTC)
    slots: list[Span] = []
    while starts + length <= ends:
        slot = Span(starts_at=starts, ends_at=starts + length)
        if _within(slot=slot, day=day, stretch=stretch, zone=zone):
            slots.append(slot)
        starts += length
    return slots


def _within(*, slot: Span, day: date, stretch: WeeklyHours, zone: ZoneInfo) -> bool:
    """Whether the wall clock shows working time from start to end. Where it is changed within the slot, minute by
    minute: between the two readings of a repeated hour it may show an earlier or a later time than at both ends."""
    starts, ends = datetime.combine(day, stretch.starts_at), datetime.combine(day, stretch.ends_at)
    first, last = slot.starts_at.astimezone(zone), slot.ends_at.astimezone(zone)
    if first.utcoffset() == last.utcoffset():
        return starts <= first.replace(tzinfo=None) and last.replace(tzinfo=None) <= ends
    minutes = int((slot.ends_at - slot.starts_at) / timedelta(minutes=1))
    shown = ((slot.starts_at + timedelta(minutes=m)).astimezone(zone).replace(tzinfo=None) for m in range(minutes))
    return all(starts <= wall < ends for wall in shown)
