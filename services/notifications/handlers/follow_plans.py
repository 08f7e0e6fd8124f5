"""Plans set the schedule of sessions; lapses and milestones are told to the member."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.notifications.domain.announcements import announce_milestone, announce_nudge
from services.notifications.domain.notification import Notification
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import plan_notifications
from services.notifications.store.session_timers import (
    ScheduleRow,
    load_latest_sessions,
    move_session_timers,
    save_schedules,
)
from shared.database import Connection
from shared.events import MemberLapsed, MilestoneReached, PlanIssued, PlanRevised
from shared.outcomes import Outcomes, cause_of

PlanEvent: TypeAlias = PlanIssued | PlanRevised | MemberLapsed | MilestoneReached


async def follow_plans(connection: Connection, events: Sequence[PlanEvent], /, *, now: datetime) -> Outcomes:
    """The last schedule of each member stands. Whether a nudge may be sent at all is decided when it is due; who has
    done a session since they lapsed, which may be read before it, gets none."""
    policy = load_policy()
    lapsed = [event.subject for event in events if isinstance(event, MemberLapsed)]
    sessions = await load_latest_sessions(connection, member_ids=lapsed) if lapsed else {}
    schedules: dict[UUID, ScheduleRow] = {}
    planned: list[Notification] = []
    for event in events:
        match event:
            case PlanIssued() | PlanRevised():
                schedule = event.data.schedule
                schedules[event.subject] = ScheduleRow(
                    weekdays=schedule.weekdays,
                    local_time=schedule.local_time,
                    time_zone=schedule.time_zone,
                    since=event.time,
                    cause=cause_of(event),
                )
            case MemberLapsed() if event.subject in sessions and sessions[event.subject] > event.time:
                continue
            case MemberLapsed():
                planned.append(announce_nudge(event=event, policy=policy, now=now))
            case MilestoneReached():
                planned.append(announce_milestone(event=event, policy=policy, now=now))
    issued = {event.subject for event in events if isinstance(event, PlanIssued)}
    await save_schedules(connection, schedules, anew=issued)
    await move_session_timers(connection, member_ids=list(schedules), policy=policy, now=now)
    await plan_notifications(connection, planned, now=now)
    return Outcomes()
