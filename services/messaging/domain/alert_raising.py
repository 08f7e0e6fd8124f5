"""When an alert is raised, repeated, escalated."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from services.messaging.domain.alert import (
    ESCALATION_LEVEL_MAX,
    PRIORITIES,
    Alert,
    AlertChange,
    AlertRules,
    Owner,
    Trigger,
    raised_event,
)
from services.messaging.domain.escalation import explain_escalation
from services.messaging.domain.people import NO_TEAM, CareTeam
from shared.events.envelope import NAMESPACE
from shared.events.vocabulary import PractitionerRole
from shared.outcomes import Timer


def choose_owner(*, ladder: Sequence[PractitionerRole], team: CareTeam, from_level: int) -> tuple[int, Owner]:
    """The first rung at or after `from_level` that somebody stands on: the absent and the missing are skipped, and
    where nobody is left the on-call role is asked."""
    for level in range(from_level, len(ladder)):
        role = ladder[level]
        if role == "oncall":
            return level, Owner(role="oncall")
        person = team.present(role=role)
        if person:
            return level, Owner(role=role, practitioner=person)
    return max(from_level, len(ladder)), Owner(role="oncall")


def raise_alerts(
    *,
    triggers: Sequence[Trigger],
    known: Sequence[Alert],
    teams: Mapping[UUID, CareTeam],
    rules: AlertRules,
    now: datetime,
) -> list[AlertChange]:
    """One change per trigger, in order. A trigger of an episode that has its alert repeats that alert: it is open
    again, at least as urgent as before, and asks again; every other trigger raises a new one.

    `known` holds the alerts of the triggers' episodes and all unresolved ones of their members.
    """
    by_key = {(a.member_id, a.kind, a.episode_key): a for a in known}
    unresolved = {
        (a.member_id, a.kind): a for a in known if a.status != "resolved" and a.kind in rules.grouped_while_open
    }
    changes: list[AlertChange] = []
    for trigger in triggers:
        key, group = (trigger.member_id, trigger.kind, trigger.episode_key), (trigger.member_id, trigger.kind)
        standing = by_key.get(key) or unresolved.get(group)
        team = teams.get(trigger.member_id, NO_TEAM)
        alert = (
            _repeat(alert=standing, trigger=trigger, team=team, rules=rules, now=now)
            if standing
            else _open(trigger=trigger, team=team, rules=rules, now=now)
        )
        changes.append(
            AlertChange(
                alert=alert,
                action="repeated" if standing else "raised",
                because=trigger.because,
                detail=trigger.summary,
                previous_role=standing.owner.role if standing else None,
            )
        )
        by_key[(alert.member_id, alert.kind, alert.episode_key)] = alert
        if alert.kind in rules.grouped_while_open:
            unresolved[group] = alert
    return changes


def _open(*, trigger: Trigger, team: CareTeam, rules: AlertRules, now: datetime) -> Alert:
    ladder = rules.ladder(kind=trigger.kind, priority=trigger.priority)
    level, owner = choose_owner(ladder=ladder, team=team, from_level=0)
    alert_id = uuid5(NAMESPACE, f"alert {trigger.member_id} {trigger.kind} {trigger.episode_key}")
    return Alert(
        alert_id=alert_id,
        member_id=trigger.member_id,
        kind=trigger.kind,
        episode_key=trigger.episode_key,
        priority=trigger.priority,
        status="open",
        summary=trigger.summary,
        decision=trigger.decision,
        raised_at=now,
        last_raised_at=now,
        repeats=0,
        owner=owner,
        level=level,
        respond_by=now + rules.respond_within[trigger.priority],
        cause=raised_event(alert_id=alert_id, because=trigger.because),
    )


def _repeat(*, alert: Alert, trigger: Trigger, team: CareTeam, rules: AlertRules, now: datetime) -> Alert:
    """Asks again. Nobody's deadline moves later because it got worse; a person who already has it keeps it."""
    priority = max(alert.priority, trigger.priority, key=PRIORITIES.index)
    respond_by = now + rules.respond_within[priority]
    level, owner = alert.level, alert.owner
    if alert.status == "open" and alert.snoozed_until is None:
        respond_by = min(respond_by, alert.respond_by)
    if priority != alert.priority or alert.status == "resolved" or _is_absent(owner=owner, team=team):
        ladder = rules.ladder(kind=alert.kind, priority=priority)
        level, owner = choose_owner(ladder=ladder, team=team, from_level=0)
    return replace(
        alert,
        priority=priority,
        status="open",
        summary=trigger.summary,
        decision=trigger.decision,
        last_raised_at=now,
        repeats=alert.repeats + 1,
        owner=owner,
        level=level,
        respond_by=respond_by,
        cause=raised_event(alert_id=alert.alert_id, because=trigger.because),
        snoozed_until=None,
        settled_at=None,
        acknowledged_by=None,
        acknowledged_at=None,
        resolved_by_id=None,
        resolved_by_name=None,
        resolved_at=None,
        outcome=None,
        note=None,
    )


def _is_absent(*, owner: Owner, team: CareTeam) -> bool:
    return owner.practitioner is not None and owner.practitioner.practitioner_id in team.absent


def escalate_alert(
    *, alert: Alert, team: CareTeam, rules: AlertRules, because: Timer, now: datetime
) -> AlertChange | None:
    """Ask the next in line; None when there is nothing to escalate: answered, snoozed, or not due yet (it was moved).

    Past the last rung the on-call role is asked again, up to the contract's level; a ladder that ends with a person
    ends there. The alert stays in the queue, overdue, either way.
    """
    if alert.status != "open" or alert.snoozed_until is not None or alert.respond_by > now:
        return None
    ladder = rules.ladder(kind=alert.kind, priority=alert.priority)
    level, owner = choose_owner(ladder=ladder, team=team, from_level=alert.level + 1)
    ends_with_person = level >= len(ladder) and "oncall" not in ladder and alert.owner.role in (ladder[-1], "oncall")
    if level > ESCALATION_LEVEL_MAX or ends_with_person:
        return None
    escalated = replace(alert, level=level, owner=owner, respond_by=now + rules.respond_within[alert.priority])
    return AlertChange(
        alert=escalated,
        action="escalated",
        because=because,
        detail=owner.role,
        previous_role=alert.owner.role,
        decision=explain_escalation(before=alert, after=escalated, rules=rules),
    )
