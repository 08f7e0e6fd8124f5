"""careloop.plans: plans, flares and lapses. Red flags have a group of their own (raise_safety_alerts)."""

from collections.abc import Mapping, Sequence
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
from services.messaging.store.alerts import load_alert_book, save_alert_changes
from services.messaging.store.course import (
    load_plan_snapshots,
    save_pain_spikes,
    save_plan_snapshots,
    save_plan_steps,
    save_usual_pains,
    settle_pain_episodes,
)
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from services.messaging.store.timeline import save_timeline
from shared.database import Connection
from shared.events import CloudEvent, MemberLapsed, PainSettled, PainSpiked, PlanIssued, PlanRevised, UsualPainChanged
from shared.events.vocabulary import AlertKind
from shared.outcomes import Outcomes

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
    await _keep_course(connection, events)
    await save_timeline(connection, [describe_event(event, service="plans") for event in events])

    triggers = _triggers_of(events)
    settled = {str(event.data.episode_id): event for event in events if isinstance(event, PainSettled)}
    others: list[tuple[UUID, AlertKind]] = [(event.subject, "pain-spike") for event in settled.values()]
    book = await load_alert_book(connection, triggers=triggers, others=others, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    changes += _settle(settled, known=book.known, raised=changes, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    shown = dict.fromkeys((event.subject, FRAGMENTS.get(event.NAME, "timeline")) for event in events)
    feed = [NewFeedEntry(kind="member", change=part, member_id=m, subject_id=m) for m, part in shown]
    await save_alert_changes(connection, changes, now=now, feed=feed)
    return outcomes


async def _keep_course(connection: Connection, events: Sequence[CloudEvent]) -> None:
    planned = [event for event in events if isinstance(event, PlanIssued | PlanRevised)]
    if planned:
        plans = await load_plan_snapshots(connection, member_ids={event.subject for event in planned})
        changed: dict[UUID, PlanSnapshot] = {}
        for event in planned:
            changed[event.subject] = plans[event.subject] = snapshot_of(event=event, before=plans.get(event.subject))
        await save_plan_snapshots(connection, list(changed.values()))
        await save_plan_steps(connection, [s for e in planned if isinstance(e, PlanRevised) for s in steps_of(event=e)])
    usual = [usual_pain_of(event=event) for event in events if isinstance(event, UsualPainChanged)]
    if usual:
        await save_usual_pains(connection, usual)
    spikes = [episode_of(event=event) for event in events if isinstance(event, PainSpiked)]
    if spikes:
        await save_pain_spikes(connection, spikes)
    settled = [event for event in events if isinstance(event, PainSettled)]
    if settled:
        await settle_pain_episodes(
            connection, episode_ids=[e.data.episode_id for e in settled], settled_at=[e.time for e in settled]
        )


def _triggers_of(events: Sequence[CloudEvent]) -> list[Trigger]:
    rules, triggers = load_trigger_rules(), list[Trigger]()
    for event in events:
        if isinstance(event, PainSpiked):
            triggers.append(on_pain_spiked(event=event, rules=rules))
        elif isinstance(event, MemberLapsed) and (trigger := on_member_lapsed(event=event, rules=rules)):
            triggers.append(trigger)
    return triggers


def _settle(
    settled: Mapping[str, PainSettled], *, known: Sequence[Alert], raised: Sequence[AlertChange], now: datetime
) -> list[AlertChange]:
    standing = {alert.alert_id: alert for alert in known} | {change.alert.alert_id: change.alert for change in raised}
    changes = [
        settle_alert(alert=alert, because=settled[alert.episode_key], now=now)
        for alert in standing.values()
        if alert.kind == "pain-spike" and alert.episode_key in settled
    ]
    return [change for change in changes if change]
