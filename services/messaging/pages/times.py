"""How times and ages are said. Pure: the words come from the page's wording, the zone is passed in."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Say = Callable[..., str]
"""Wording: key and values to text."""


@lru_cache(maxsize=500)
def zone_of(name: str | None) -> ZoneInfo:
    """A zone by its IANA name; UTC where none is known, which the zone's label then says."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def clock_time(moment: datetime, zone: tzinfo) -> str:
    """`14:05`."""
    return f"{moment.astimezone(zone):%H:%M}"


def day(moment: datetime, zone: tzinfo, say: Say) -> str:
    """`Mon 23 Nov`."""
    local = moment.astimezone(zone)
    return say("day", weekday=say(f"weekday.{local.isoweekday()}"), day=local.day, month=say(f"month.{local.month}"))


def day_and_time(moment: datetime, zone: tzinfo, say: Say) -> str:
    """`Mon 23 Nov, 14:05 EST`."""
    return f"{day(moment, zone, say)}, {clock_time(moment, zone)} {moment.astimezone(zone):%Z}"


def zone_label(moment: datetime, zone: tzinfo) -> str:
    """`EST`, as it is called at that moment."""
    return f"{moment.astimezone(zone):%Z}"


def length(span: timedelta, say: Say) -> str:
    """The largest whole unit: `40 s`, `12 min`, `3 h`, `5 d`, `8 wk`. Never negative."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, size in (("wk", 14 * 86_400), ("d", 2 * 86_400), ("h", 2 * 3_600), ("min", 60)):
        if seconds >= size:
            per = {"wk": 7 * 86_400, "d": 86_400, "h": 3_600, "min": 60}[unit]
            return say(f"unit.{unit}", n=seconds // per)
    return say("unit.s", n=seconds)
