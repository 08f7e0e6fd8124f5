"""When a member is next reminded of a planned session."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from services.notifications.domain.jitter import jitter_of
from services.notifications.domain.policy import Policy
from services.notifications.domain.quiet_hours import local_date, local_moment

DAYS_AHEAD = 15
"""Two weeks and a day: every weekday comes twice, so one that is done or reminded of has another."""


@dataclass(frozen=True, kw_only=True)
class SessionSchedule:
    """When a member's sessions are planned: ISO weekdays (1 Monday - 7 Sunday) at a wall-clock time."""

    weekdays: tuple[int, ...]
    local_time: time
    since: datetime
    """When this schedule came into force: nothing before it is reminded of."""


@dataclass(frozen=True, kw_only=True)
class SessionReminder:
    planned_on: date
    """The member's local date."""
    due_at: datetime
    stale_at: datetime


def next_session_reminder(
    *,
    schedule: SessionSchedule,
    zone: ZoneInfo,
    member_id: UUID,
    reminded_on: date | None,
    done_on: date | None,
    not_before: datetime | None,
    now: datetime,
    policy: Policy,
) -> SessionReminder | None:
    """The first reminder that is not stale yet, not made yet and not moot.

    It comes at the planned time plus the member's jitter; one planned outside the window is moved to its nearest edge
    on the same day (a session at 5:30 is reminded of at 8:00, one at 22:00 in the last minutes before 21:00), because
    the next morning would be too late for it. `reminded_on` is the latest day handled, `done_on` the day of the latest
    session, `not_before` the end of a pause. None when the weekdays are empty.
    """
    today = local_date(at=now, zone=zone)
    jitter = jitter_of(member_id=member_id, up_to=policy.jitter_max)
    # From yesterday: a reminder of a late evening may not be stale yet just after midnight.
    for ahead in range(-1, DAYS_AHEAD):
        day = today + timedelta(days=ahead)
        if day.isoweekday() not in schedule.weekdays or day == done_on or (reminded_on and day <= reminded_on):
            continue
        planned_at = local_moment(on=day, at=_within_window(schedule.local_time, policy), zone=zone)
        reminder = SessionReminder(
            planned_on=day,
            due_at=planned_at + jitter,
            stale_at=min(
                planned_at + jitter + policy.topics["session-reminder"].stale_after,
                local_moment(on=day + timedelta(days=1), at=time(0), zone=zone),
            ),
        )
        earliest = max(schedule.since, not_before) if not_before else schedule.since
        if reminder.stale_at > now and reminder.due_at >= earliest:
            return reminder
    return None


def _within_window(planned: time, policy: Policy) -> time:
    """The wall-clock time in the window that is nearest, leaving room for the jitter before it closes."""
    closes = datetime.combine(date(2000, 1, 1), policy.window.closes, tzinfo=UTC) - policy.jitter_max
    return min(max(planned, policy.window.opens), closes.time())
