"""careloop.plans: plans, flares and lapses. Red flags have a group of their own (raise_safety_alerts)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import Alert, AlertChange, Trigger
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import settle_alert
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.course import PlanSnapshot
from services.messaging.domain.course_events import episode_of, snapshot_of, steps_of, usual_pain_of
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.domain.triggers import on_member_lapsed, on_pain_spiked
from services.messaging.store.alerts import AlertBook, load_alert_book, saving_alert_changes
from services.messaging.store.course import (
    load_last_sessions,
    load_plan_snapshots,
    saving_pain_spikes,
    saving_plan_snapshots,
    saving_plan_steps,
    saving_usual_pains,
    settle_pain_episodes,
)
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import CloudEvent, MemberLapsed, PainSettled, PainSpiked, PlanIssued, PlanRevised, UsualPainChanged
from shared.events.vocabulary import AlertKind
from shared.outcomes import Outcomes, Write
from shared.writing import write

FRAGMENTS = {
    PlanIssued.NAME: "plan",
    PlanRevised.NAME: "plan",
    PainSpiked.NAME: "pain",
    PainSettled.NAME: "pain",
    UsualPainChanged.NAME: "pain",
}
"""Which part of the member page an event changes; the timeline where not named."""


async def follow_plans(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Keep plans, flares and the timeline; raise alerts for spikes and lapses; mark those whose pain settled."""
    outcomes = Outcomes()
    kept = [saving_timeline([describe_event(event, service="plans") for event in events])]
    kept += await _keep_course(connection, events)
    steps = _steps_of(events)
    lapses = {one.member_id for one in steps if isinstance(one, Trigger) and one.kind == "lapse"}
    if lapses:
        sessions = await load_last_sessions(connection, member_ids=lapses)
        steps = [one for one in steps if not _is_over(one, sessions)]
    others: list[tuple[UUID, AlertKind]] = [
        (one.subject, "pain-spike") for one in steps if isinstance(one, PainSettled)
    ]
    triggers = [one for one in steps if isinstance(one, Trigger)]
    book = await load_alert_book(connection, triggers=triggers, others=others, now=now)
    changes = _follow(steps, book, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    shown = dict.fromkeys((event.subject, FRAGMENTS.get(event.NAME, "timeline")) for event in events)
    feed = [NewFeedEntry(kind="member", change=part, member_id=m, subject_id=m) for m, part in shown]
    outcomes.writes += [*kept, *saving_alert_changes(changes, now=now, feed=feed)]
    return outcomes


async def _keep_course(connection: Connection, events: Sequence[CloudEvent]) -> list[Write]:
    """What is left to write."""
    kept: list[Write] = []
    planned = [event for event in events if isinstance(event, PlanIssued | PlanRevised)]
    if planned:
        plans = await load_plan_snapshots(connection, member_ids={event.subject for event in planned})
        changed: dict[UUID, PlanSnapshot] = {}
        for event in planned:
            changed[event.subject] = plans[event.subject] = snapshot_of(event=event, before=plans.get(event.subject))
        steps = [step for e in planned if isinstance(e, PlanRevised) for step in steps_of(event=e)]
        kept += [saving_plan_snapshots(list(changed.values())), saving_plan_steps(steps)]
    usual = [usual_pain_of(event=event) for event in events if isinstance(event, UsualPainChanged)]
    if usual:
        kept.append(saving_usual_pains(usual))
    spikes = [episode_of(event=event) for event in events if isinstance(event, PainSpiked)]
    if spikes:
        kept.append(saving_pain_spikes(spikes))
    settled = [event for event in events if isinstance(event, PainSettled)]
    if settled:
        await write(connection, kept)  # one of them may have begun only now
        kept = []
        await settle_pain_episodes(connection, {event.data.episode_id: event.time for event in settled})
    return kept


def _steps_of(events: Sequence[CloudEvent]) -> list[Trigger | PainSettled]:
    """What raises an alert or settles one, in log order."""
    rules, steps = load_trigger_rules(), list[Trigger | PainSettled]()
    for event in events:
        if isinstance(event, PainSpiked):
            steps.append(on_pain_spiked(event=event, rules=rules))
        elif isinstance(event, PainSettled):
            steps.append(event)
        elif isinstance(event, MemberLapsed) and (trigger := on_member_lapsed(event=event, rules=rules)):
            steps.append(trigger)
    return steps


def _is_over(step: Trigger | PainSettled, sessions: Mapping[UUID, datetime]) -> bool:
    """A lapse of somebody who is back: their session was read before it, from another topic."""
    if not isinstance(step, Trigger) or not isinstance(step.because, MemberLapsed):
        return False
    last = sessions.get(step.member_id)
    return last is not None and last > step.because.time


def _follow(steps: Sequence[Trigger | PainSettled], book: AlertBook, *, now: datetime) -> list[AlertChange]:
    """One step after the other: an alert that asks again after its pain had settled has not settled, whether both come
    in one chunk or in two."""
    standing: dict[UUID, dict[UUID, Alert]] = {}
    for alert in book.known:
        standing.setdefault(alert.member_id, {})[alert.alert_id] = alert
    changes: list[AlertChange] = []
    for step in steps:
        alerts = standing.setdefault(step.member_id if isinstance(step, Trigger) else step.subject, {})
        made = (
            raise_alerts(
                triggers=[step], known=list(alerts.values()), teams=book.teams, rules=load_alert_rules(), now=now
            )
            if isinstance(step, Trigger)
            else _settle(step, alerts=alerts.values(), now=now)
        )
        alerts |= {change.alert.alert_id: change.alert for change in made}
        changes += made
    return changes


def _settle(event: PainSettled, *, alerts: Iterable[Alert], now: datetime) -> list[AlertChange]:
    key = str(event.data.episode_id)
    changes = [
        settle_alert(alert=alert, because=event, now=now)
        for alert in alerts
        if alert.kind == "pain-spike" and alert.episode_key == key
    ]
    return [change for change in changes if change]
