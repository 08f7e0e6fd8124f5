"""Planned days at the member's own time: the next session and the day by which one is missed.

A wall-clock time that does not exist on the night the clocks go forward is the moment after the gap; one that exists
twice is its first occurrence (PEP 495, fold 0).
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from services.plans.domain.care_plan import Item, Week
from services.plans.domain.rules import ExerciseRule, FrequencyRule
from shared.events.vocabulary import Exercise


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """The zone, or UTC where nobody knows the name: a plan never fails for a zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def sessions_per_week(*, days_per_week: int, rule: FrequencyRule) -> int:
    """Days a week that are planned: what the member has, at least where an effect was seen and at most the same."""
    return min(max(days_per_week, rule.sessions_min), rule.sessions_max)


def plan_week(*, sessions: int, local_time: str, time_zone: str, rule: FrequencyRule) -> Week:
    return Week(
        weekdays=rule.weekdays[sessions],
        strength_weekdays=rule.strength_weekdays,
        local_time=local_time,
        time_zone=time_zone,
    )


def local_date(*, at_s: int, time_zone: str) -> date:
    return datetime.fromtimestamp(at_s, zone_of(time_zone)).date()


@lru_cache(maxsize=1024)
def next_planned_date(*, after: date, weekdays: tuple[int, ...]) -> date:
    """The first planned day after a day."""
    return next(day for day in (after + timedelta(days=n) for n in range(1, 8)) if day.isoweekday() in weekdays)


@lru_cache(maxsize=1024)
def local_midnight_s(*, day: date, time_zone: str) -> int:
    """When a local day begins, in Unix seconds."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone_of(time_zone)).timestamp())


def next_session_at(*, week: Week, now_s: int, last_session_s: int | None) -> datetime:
    """When the next session is planned, in UTC: today if its time has not passed and none was done today, else the next
    planned day."""
    zone = zone_of(week.time_zone)
    now = datetime.fromtimestamp(now_s, zone)
    hour, minute = (int(part) for part in week.local_time.split(":"))
    today = datetime(now.year, now.month, now.day, hour, minute, tzinfo=zone)
    done_today = last_session_s is not None and local_date(at_s=last_session_s, time_zone=week.time_zone) == now.date()
    if now.isoweekday() in week.weekdays and not done_today and today.timestamp() > now_s:
        return today.astimezone(UTC)
    day = next_planned_date(after=now.date(), weekdays=week.weekdays)
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)


def items_on(
    *, weekday: int, items: tuple[Item, ...], week: Week, exercises: dict[Exercise, ExerciseRule]
) -> tuple[Item, ...]:
    """What is asked for on a weekday: stretches on each planned day, strength on days that are not consecutive."""
    strength = weekday in week.strength_weekdays
    return tuple(item for item in items if strength or exercises[item.exercise].kind == "stretch")
