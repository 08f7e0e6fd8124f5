"""Quiet hours: what can wait is sent only while it is day for the member. They move a moment, they never drop it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from services.notifications.domain.policy import Window

DAYS_AHEAD = 8


def is_open(*, at: datetime, zones: Sequence[ZoneInfo], window: Window) -> bool:
    """Whether it is day in every one of these zones. With one zone, the member's own; with several, all it may be."""
    return all(window.opens <= at.astimezone(zone).time() < window.closes for zone in zones)


def defer(*, at: datetime, zones: Sequence[ZoneInfo], window: Window, jitter: timedelta) -> datetime:
    """The first moment from `at` on when the window is open in all zones; `at` itself when it is open then.

    A deferred moment comes `jitter` after the opening (as far as the window is still open then), so that a night's
    messages do not all leave in the minute that the day begins. Raises ValueError for zones that never share an open
    hour: the library's zones do, and a test holds them to it.
    """
    if is_open(at=at, zones=zones, window=window):
        return at
    openings = sorted(
        opening
        for zone in zones
        for day in range(DAYS_AHEAD)
        if (opening := local_moment(on=at.astimezone(zone).date() + timedelta(days=day), at=window.opens, zone=zone))
        > at
    )
    for opening in openings:
        if is_open(at=opening, zones=zones, window=window):
            later = opening + jitter
            return later if is_open(at=later, zones=zones, window=window) else opening
    raise ValueError("these zones share no hour of the window")


def local_moment(*, on: date, at: time, zone: ZoneInfo) -> datetime:
    """The UTC moment of a wall-clock time. A time that a clock change skips is read with the offset from before it; of
    one that comes twice, the first."""
    return datetime.combine(on, at, tzinfo=zone).astimezone(UTC)


def local_date(*, at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()
