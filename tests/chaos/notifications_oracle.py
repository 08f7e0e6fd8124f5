"""What notifications must have planned, told and sent.

What is planned follows from events and, for reminders, from the schedule and the time. What becomes of a send does
not: a process that was killed in the middle of one cannot know. So each notification must have ended, once, in a way
that fits what was told of it and what the mailbox holds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from services.notifications.domain.announcements import (
    about_alert,
    about_visit,
    announce_milestone,
    announce_page,
)
from services.notifications.domain.notification import notification_id_of
from services.notifications.domain.session_reminders import SessionReminder, SessionSchedule, next_session_reminder
from services.notifications.store.library import load_policy
from services.plans.domain.care_plan import CarePlan
from shared.events import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    CloudEvent,
    MilestoneReached,
    VisitCancelled,
    VisitCompleted,
    VisitMissed,
    VisitRescheduled,
)
from tests.chaos.findings import Findings, derive_id

ENDS: Mapping[str, str] = {
    "sent": "notification.sent",
    "unknown": "notification.failed",
    "failed": "notification.failed",
    "suppressed": "notification.suppressed",
    "expired": "notification.suppressed",
}
"""What is told of each state in which a notification ends."""
MOOT_AT_ONCE = 12
"""Notifications about one thing that one event may end."""
STEPS = ("record-sent", "record-unknown", "record-failed", "record-suppressed", "claim-send")


def reminders_of(plan: CarePlan, *, opening: datetime, now: datetime) -> tuple[list[UUID], SessionReminder]:
    """Reminders that must have been planned between the opening and now, and the one that is to come."""
    policy, planned = load_policy(), list[UUID]()
    schedule = SessionSchedule(
        weekdays=plan.week.weekdays, local_time=time.fromisoformat(plan.week.local_time), since=opening
    )
    reminded = None
    while True:
        reminder = next_session_reminder(
            schedule=schedule, zone=ZoneInfo(plan.week.time_zone), member_id=plan.member_id, reminded_on=reminded,
            done_on=None, not_before=None, now=opening, policy=policy,
        )  # fmt: skip
        assert reminder is not None, "a plan has days"
        if reminder.due_at > now:
            return planned, reminder
        reminded, occasion = reminder.planned_on, str(reminder.planned_on)
        planned.append(notification_id_of(topic="session-reminder", member_id=plan.member_id, occasion=occasion))


def announced(events: Iterable[CloudEvent], now: datetime) -> set[UUID]:
    """Notifications that these events ask for."""
    policy, ids = load_policy(), set[UUID]()
    for event in events:
        if isinstance(event, MilestoneReached):
            ids.add(announce_milestone(event=event, policy=policy, now=now).notification_id)
        elif isinstance(event, AlertRaised | AlertEscalated):
            page = announce_page(event=event, policy=policy, now=now)
            if page is not None:
                ids.add(page.notification_id)
    return ids


def judge_ends(
    rows: Sequence[Mapping[str, Any]], told: Sequence[CloudEvent], mailed: Counter[str], findings: Findings,
    *, enders: Mapping[str, Sequence[CloudEvent]], now: datetime,
) -> None:  # fmt: skip
    """Hold the end of each notification against what was told and mailed. `enders`: by what a notification is about,
    the events that may make it moot. A page of which nobody knows may not have been sent again by `now`, when clinic
    time stands still."""
    by_id: dict[str, list[CloudEvent]] = {}
    for event in told:
        by_id.setdefault(str(event.data.notification_id), []).append(event)  # type: ignore[attr-defined]
    for row in rows:
        name, state = str(row["notification_id"]), row["state"]
        events = by_id.pop(name, [])
        allowed = _ids(row) | _moot_ids(enders.get(row["about"], ()))
        for event in events:
            if event.id not in allowed:
                findings.add("reminders", f"{event.type} {event.id} follows from nothing")
        if state == "planned" and row["topic"] == "safety-page" and row["attempts"] and row["not_before"] > now:
            if events or mailed.pop(name, 0) > row["attempts"]:
                findings.add("mail", "a page that is to be sent again was told of, or mailed too often")
            continue
        if state not in ENDS:
            findings.add("reminders", f"a notification of {row['topic']} is {state} at the end")
            continue
        # An attempt that was given up may be answered after all: both are told.
        names = [event.NAME for event in events]
        late = ["notification.failed"] if state == "sent" and "notification.failed" in names else []
        findings.same("reminders", f"told of one that is {state}", sorted([*late, ENDS[state]]), sorted(names))
        count = mailed.pop(name, 0)
        # A page of unknown result is sent again, and may be moot by then.
        again = row["attempts"] if row["topic"] == "safety-page" else 0
        is_silent = state in ("suppressed", "expired") and not again
        if count > max(1, again) or (count == 0 and state == "sent") or (count and is_silent):
            findings.add("mail", f"a {row['topic']} that is {state} was mailed {count} times")
    if by_id or mailed:
        findings.add("reminders", f"{len(by_id)} told of, {len(mailed)} mailed that nobody planned")


def enders_of(events: Iterable[CloudEvent]) -> dict[str, list[CloudEvent]]:
    """By what a notification is about: whatever happens to a visit, and who takes an alert on."""
    enders: dict[str, list[CloudEvent]] = {}
    for event in events:
        if isinstance(event, AlertAcknowledged | AlertResolved):
            enders.setdefault(about_alert(event.data.alert_id), []).append(event)
        elif isinstance(event, VisitRescheduled | VisitCancelled | VisitMissed | VisitCompleted):
            enders.setdefault(about_visit(event.data.visit_id), []).append(event)
    return enders


def _moot_ids(events: Iterable[CloudEvent]) -> set[str]:
    groups = {True: "notifications.conversations", False: "notifications.visits"}
    return {
        derive_id(f"notifications {groups[isinstance(e, AlertAcknowledged | AlertResolved)]} {e.source} {e.id} {place}")
        for e in events
        for place in range(MOOT_AT_ONCE)
    }


def _ids(row: Mapping[str, Any]) -> set[str]:
    cause = row["cause"]
    return {
        derive_id(f"notifications command {step} {row['notification_id']} {number} {cause['source']} {cause['id']} 0")
        for step in STEPS
        for number in range(row["attempts"] + 1)
    }
