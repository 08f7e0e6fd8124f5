"""What happens when nobody did anything: escalate, wake, remind, give back, call missed, ask for an answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import remind_alert, wake_alert
from services.messaging.domain.alert_raising import escalate_alert, raise_alerts
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.people import NO_TEAM
from services.messaging.domain.triggers import on_message_unanswered
from services.messaging.domain.visit import miss_visit
from services.messaging.domain.visit_events import announce_visit
from services.messaging.store.alerts import claim_alerts, load_alert_book, saving_alert_changes
from services.messaging.store.conversations import load_conversations
from services.messaging.store.feed import saving_feed_entries
from services.messaging.store.members import load_care_teams
from services.messaging.store.rules import load_alert_rules, load_trigger_rules, load_visit_rules
from services.messaging.store.visits import delete_holds, load_visits, save_visits
from shared.database import Connection
from shared.outcomes import Outcomes, Timer
from shared.timers import save_timers


async def escalate_alerts(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Nobody acknowledged in time: the next in line is asked."""
    return await _move_alerts(connection, timers, escalate_alert, now=now)


async def wake_alerts(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """A snooze is over: the alert asks again."""
    return await _move_alerts(connection, timers, wake_alert, now=now)


async def remind_alerts(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Taken on, and nothing has come of it in time: the alert asks again."""
    return await _move_alerts(connection, timers, remind_alert, now=now)


async def _move_alerts(
    connection: Connection, timers: Sequence[Timer], decide: Callable[..., AlertChange | None], *, now: datetime
) -> Outcomes:
    outcomes, rules = Outcomes(), load_alert_rules()
    # A red flag that changes one of them now holds the alert, and waits for the timer that this transaction has taken:
    # it goes first, and the timer is tried again.
    alerts, taken = await claim_alerts(connection, alert_ids=[UUID(timer.key) for timer in timers])
    await save_timers(connection, [timer for timer in timers if UUID(timer.key) in taken])
    teams = await load_care_teams(connection, member_ids={a.member_id for a in alerts.values()}, now=now)
    changes: list[AlertChange] = []
    for timer in timers:
        alert = alerts.get(UUID(timer.key))
        if alert is not None:
            because = replace(timer, cause=alert.cause)
            team = teams.get(alert.member_id, NO_TEAM)
            change = decide(alert=alert, team=team, because=because, rules=rules, now=now)
            changes += [change] if change else []
    announce_alerts(outcomes=outcomes, changes=changes)
    outcomes.writes += saving_alert_changes(changes, now=now)
    return outcomes


async def release_holds(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Five minutes are over: the held times are free again."""
    visits = await load_visits(connection, visit_ids=[UUID(timer.payload["visit_id"]) for timer in timers])
    over = [v for v in visits.values() if v.status == "held" and v.hold_expires_at and v.hold_expires_at <= now]
    await delete_holds(connection, visit_ids=[visit.visit_id for visit in over])
    feed = [
        NewFeedEntry(
            kind="visit",
            change="released",
            member_id=visit.member_id,
            subject_id=visit.visit_id,
            also=(visit.practitioner.practitioner_id,),
        )
        for visit in over
    ]
    return Outcomes(writes=[saving_feed_entries(feed, now=now)])


async def miss_visits(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Nobody completed the visits: they count as missed. The alert follows from the event."""
    outcomes, rules = Outcomes(), load_visit_rules()
    visits = await load_visits(connection, visit_ids=[UUID(timer.key) for timer in timers])
    missed = []
    for timer in timers:
        visit = visits.get(UUID(timer.key))
        after = miss_visit(visit=visit, rules=rules, now=now) if visit else None
        if visit and after:
            missed.append(announce_visit(outcomes=outcomes, visit=after, before=visit, because=timer, by="system"))
    await save_visits(connection, missed)
    feed = [
        NewFeedEntry(
            kind="visit",
            change="missed",
            member_id=visit.member_id,
            subject_id=visit.visit_id,
            also=(visit.practitioner.practitioner_id,),
        )
        for visit in missed
    ]
    outcomes.writes.append(saving_feed_entries(feed, now=now))
    return outcomes


async def ask_for_answers(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Messages that nobody answered in time become alerts."""
    outcomes, rules, triggers = Outcomes(), load_alert_rules(), []
    conversations = await load_conversations(connection, member_ids=[timer.member_id for timer in timers])
    for timer in timers:
        waiting = conversations.get(timer.member_id)
        if (
            waiting is None
            or waiting.awaiting_since is None
            or waiting.awaiting_since + rules.first_response_within > now
        ):
            continue
        hours = int((now - waiting.awaiting_since).total_seconds() // 3600)
        triggers.append(
            on_message_unanswered(
                timer=timer,
                message_id=str(waiting.awaiting_message_id),
                since=waiting.awaiting_since,
                waited_hours=hours,
                rules=load_trigger_rules(),
            )
        )
    book = await load_alert_book(connection, triggers=triggers, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=rules, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    outcomes.writes += saving_alert_changes(changes, now=now)
    return outcomes
