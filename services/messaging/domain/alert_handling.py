"""What a person may do about an alert. Each answers the change, or a refusal that says why not.

`seen` is the alert's `repeats` as the person had them before their eyes. None: a client that does not say. It may take
an alert on as it is now; what nobody has taken on it cannot put away.
"""

from dataclasses import replace
from datetime import datetime

from services.messaging.domain.alert import Alert, AlertChange, AlertRules, Owner, raised_event
from services.messaging.domain.alert_raising import choose_owner
from services.messaging.domain.escalation import explain_reminder
from services.messaging.domain.people import NO_TEAM, CareTeam
from shared.events.conversations import AlertOutcome
from shared.events.envelope import CloudEvent
from shared.events.vocabulary import Practitioner, PractitionerRole
from shared.outcomes import Command, Refusal, Timer


def _already_resolved(alert: Alert) -> Refusal | None:
    if alert.status != "resolved":
        return None
    return Refusal("already-resolved", f"Resolved by {alert.resolved_by_name or 'the system'}.")


def _unseen(alert: Alert, seen: int | None) -> Refusal | None:
    """What joined the alert after the person looked, they have not decided about."""
    if seen is not None and seen != alert.repeats:
        return Refusal(
            "asked-again",
            f"It asked again after that: {alert.priority}. Look at it again; its repeats are {alert.repeats}.",
        )
    if seen is None and alert.acknowledged_at is None:
        return Refusal("not-seen", "Nobody has acknowledged what it asks now. Say which of its repeats you have seen.")
    return None


def acknowledge_alert(
    *, alert: Alert, by: Practitioner, seen: int | None, because: Command, now: datetime
) -> AlertChange | Refusal:
    """`by` has seen it and takes it on. The first one wins; a second learns who was first. Again by the same: no change
    of the time. Refusals: already-acknowledged, already-resolved, asked-again."""
    if refused := _already_resolved(alert):
        return refused
    if alert.status == "acknowledged" and alert.acknowledged_by:
        return Refusal("already-acknowledged", f"Acknowledged by {alert.acknowledged_by.name}.")
    if seen is not None and (refused := _unseen(alert, seen)):
        return refused
    owner = Owner(role=by.role, practitioner=by)
    taken = replace(
        alert, status="acknowledged", acknowledged_by=by, acknowledged_at=now, owner=owner, snoozed_until=None
    )
    return AlertChange(alert=taken, action="acknowledged", because=because, by=by, previous_role=alert.owner.role)


def undo_acknowledgement(
    *, alert: Alert, by: Practitioner, because: Command, rules: AlertRules, now: datetime
) -> AlertChange | Refusal:
    """Back to open, still asking `by`, with the deadline it had, also where `by` put it off meanwhile. Only by who
    acknowledged, only for some seconds. Refusals: not-acknowledged, not-yours, too-late."""
    if alert.status != "acknowledged" or alert.acknowledged_by is None or alert.acknowledged_at is None:
        return Refusal("not-acknowledged", "There is no acknowledgement to undo.")
    if alert.acknowledged_by.practitioner_id != by.practitioner_id:
        return Refusal("not-yours", f"Acknowledged by {alert.acknowledged_by.name}.")
    if now - alert.acknowledged_at > rules.undo_within:
        return Refusal("too-late", "The time to undo is over; hand the alert over instead.")
    asking = replace(
        alert,
        status="open",
        snoozed_until=None,
        acknowledged_by=None,
        acknowledged_at=None,
        respond_by=max(alert.respond_by, now),
        cause=raised_event(alert_id=alert.alert_id, because=because),
    )
    return AlertChange(alert=asking, action="undone", because=because, by=by, previous_role=alert.owner.role)


def snooze_alert(
    *,
    alert: Alert,
    by: Practitioner,
    until: datetime,
    seen: int | None,
    because: Command,
    rules: AlertRules,
    now: datetime,
) -> AlertChange | Refusal:
    """Out of the queue until then; it comes back open, with a new deadline, to the one who put it off.
    Refusals: already-resolved, asked-again, not-seen, emergency, not-ahead, too-long."""
    if refused := _already_resolved(alert) or _unseen(alert, seen):
        return refused
    if alert.priority == "emergency":
        return Refusal("emergency", "An emergency cannot be put off.")
    if until <= now:
        return Refusal("not-ahead", "The time to come back must lie ahead.")
    if until - now > rules.snooze_max:
        return Refusal("too-long", f"At most {rules.snooze_max.days} days.")
    owner = Owner(role=by.role, practitioner=by)
    taken = alert.status == "acknowledged"
    asleep = replace(
        alert,
        status="acknowledged",
        snoozed_until=until,
        owner=owner,
        acknowledged_by=alert.acknowledged_by if taken else by,
        acknowledged_at=alert.acknowledged_at if taken else now,
    )
    return AlertChange(
        alert=asleep, action="snoozed", because=because, by=by, detail=until.isoformat(), previous_role=alert.owner.role
    )


def wake_alert(*, alert: Alert, team: CareTeam, because: Timer, rules: AlertRules, now: datetime) -> AlertChange | None:
    """The snooze is over: it asks again. None when it is not asleep, or asleep for longer than this timer knew."""
    if alert.status == "resolved" or alert.snoozed_until is None or alert.snoozed_until > now:
        return None
    awake = replace(alert, snoozed_until=None, acknowledged_by=None, acknowledged_at=None)
    asking = _ask_its_owner(alert=awake, level=alert.level, team=team, because=because, rules=rules, now=now)
    return AlertChange(alert=asking, action="woke", because=because, previous_role=alert.owner.role)


def remind_alert(
    *, alert: Alert, team: CareTeam, because: Timer, rules: AlertRules, now: datetime
) -> AlertChange | None:
    """Somebody took it on and nothing has come of it in time: it asks again, them first, then the next in line.
    None when something has, or when it was put off. The timer alone says that it is time: the rules may have changed
    since it was set, and the alert must not be lost over that."""
    if alert.status != "acknowledged" or alert.snoozed_until is not None:
        return None
    ladder = rules.ladder(kind=alert.kind, priority=alert.priority)
    level = ladder.index(alert.owner.role) if alert.owner.role in ladder else alert.level
    asking = _ask_its_owner(alert=alert, level=level, team=team, because=because, rules=rules, now=now)
    return AlertChange(
        alert=asking,
        action="reminded",
        because=because,
        previous_role=alert.owner.role,
        decision=explain_reminder(before=alert, after=asking, rules=rules),
    )


def _ask_its_owner(
    *, alert: Alert, level: int, team: CareTeam, because: Timer, rules: AlertRules, now: datetime
) -> Alert:
    """Open, with a new deadline, for the one who has it; for the first in line where they are absent."""
    owner = alert.owner
    if owner.practitioner and owner.practitioner.practitioner_id in team.absent:
        ladder = rules.ladder(kind=alert.kind, priority=alert.priority)
        level, owner = choose_owner(ladder=ladder, team=team, from_level=0)
    return replace(
        alert,
        status="open",
        owner=owner,
        level=level,
        respond_by=now + rules.respond_within[alert.priority],
        cause=raised_event(alert_id=alert.alert_id, because=because),
    )


def hand_over_alert(
    *,
    alert: Alert,
    by: Practitioner,
    to_role: PractitionerRole,
    team: CareTeam,
    seen: int | None,
    because: Command,
    rules: AlertRules,
    now: datetime,
) -> AlertChange | Refusal:
    """To another of the care team, or to the on-call role: open again, with a new deadline, until they acknowledge.
    Refusals: already-resolved, asked-again, not-seen, already-theirs, nobody-there."""
    if refused := _already_resolved(alert) or _unseen(alert, seen):
        return refused
    person = team.present(role=to_role)
    if to_role != "oncall" and person is None:
        return Refusal("nobody-there", "Nobody in that role is there now.")
    owner = Owner(role=to_role, practitioner=person)
    if alert.status == "open" and owner == alert.owner:
        return Refusal("already-theirs", "They are asked already.")
    ladder = rules.ladder(kind=alert.kind, priority=alert.priority)
    given = replace(
        alert,
        status="open",
        acknowledged_by=None,
        acknowledged_at=None,
        snoozed_until=None,
        owner=owner,
        level=ladder.index(to_role) if to_role in ladder else alert.level,
        respond_by=now + rules.respond_within[alert.priority],
        cause=raised_event(alert_id=alert.alert_id, because=because),
    )
    return AlertChange(
        alert=given,
        action="handed-over",
        because=because,
        by=by,
        detail=person.name if person else "on-call",
        previous_role=alert.owner.role,
    )


def settle_alert(*, alert: Alert, because: CloudEvent, now: datetime) -> AlertChange | None:
    """The pain went back to usual. A person still decides what came of it: the alert is marked, not closed."""
    if alert.status == "resolved" or alert.settled_at is not None:
        return None
    return AlertChange(alert=replace(alert, settled_at=now), action="settled", because=because)


def resolve_alert(
    *,
    alert: Alert,
    by: Practitioner | None,
    outcome: AlertOutcome,
    note: str | None,
    because: CloudEvent | Command | Timer,
    now: datetime,
) -> AlertChange | Refusal:
    """What came of it. `by` is none where the reason itself went away. Refusal: already-resolved."""
    if refused := _already_resolved(alert):
        return refused
    done = replace(
        alert,
        status="resolved",
        resolved_at=now,
        outcome=outcome,
        note=note,
        snoozed_until=None,
        resolved_by_id=by.practitioner_id if by else None,
        resolved_by_name=by.name if by else None,
    )
    return AlertChange(
        alert=done, action="resolved", because=because, by=by, detail=outcome, previous_role=alert.owner.role
    )


def close_alert(
    *,
    alert: Alert,
    by: Practitioner,
    outcome: AlertOutcome,
    note: str | None,
    seen: int | None,
    because: Command,
    now: datetime,
) -> AlertChange | Refusal:
    """A person says what came of what they have seen. Refusals: already-resolved, asked-again, not-seen."""
    if refused := _already_resolved(alert) or _unseen(alert, seen):
        return refused
    return resolve_alert(alert=alert, by=by, outcome=outcome, note=note, because=because, now=now)


def follow_care_team(
    *, alert: Alert, team: CareTeam, is_first: bool, because: CloudEvent, rules: AlertRules, now: datetime
) -> AlertChange | None:
    """The care team changed: an alert of somebody who left it asks the new one. So does one that asks the on-call role
    for want of any team, where this `is_first`: it was read before its member's team was, from another topic. None
    where its owner is still there, and where the on-call role has it otherwise: who is on call is not the team's."""
    person = alert.owner.practitioner
    ladder = rules.ladder(kind=alert.kind, priority=alert.priority)
    if alert.status == "resolved":
        return None
    if alert.owner.role == "oncall" or person is None:
        for_want_of_a_team = (alert.level, alert.owner) == choose_owner(ladder=ladder, team=NO_TEAM, from_level=0)
        if not (is_first and alert.status == "open" and for_want_of_a_team):
            return None
    elif person.practitioner_id in {p.practitioner_id for p in (team.pt, team.coach) if p}:
        return None
    level, owner = choose_owner(ladder=ladder, team=team, from_level=0)
    if owner == alert.owner:
        return None
    moved = replace(
        alert,
        status="open",
        acknowledged_by=None,
        acknowledged_at=None,
        snoozed_until=None,
        owner=owner,
        level=level,
        respond_by=now + rules.respond_within[alert.priority],
        cause=raised_event(alert_id=alert.alert_id, because=because),
    )
    return AlertChange(
        alert=moved,
        action="handed-over",
        because=because,
        detail="the care team changed",
        previous_role=alert.owner.role,
    )
