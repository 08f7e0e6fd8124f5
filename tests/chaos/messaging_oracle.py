"""What messaging must have made of what plans told: alerts, folded by its pure rules.

When something was decided is not in the accepted events: that moment is taken from the event that tells of the
decision. All else about it, its identity first, follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.messaging.domain.alert import Alert, AlertChange, Trigger, raised_event
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import settle_alert
from services.messaging.domain.alert_raising import escalate_alert, raise_alerts
from services.messaging.domain.people import CareTeam
from services.messaging.domain.triggers import on_pain_spiked, on_safety_flagged
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.events import AlertEscalated, AlertRaised, CloudEvent, PainSettled, PainSpiked, SafetyFlagged
from shared.outcomes import Outcomes, Timer
from tests.chaos.findings import Findings, derive_id

ESCALATION = "alert.escalation"
LATE_S = 2.0
"""A deadline that passed so long before the end must have been acted on."""


@dataclass
class MessagingOracle:
    team: CareTeam
    observed: Mapping[str, CloudEvent]
    """What lies in careloop.conversations, by id."""
    findings: Findings
    alerts: dict[UUID, Alert] = field(default_factory=dict)
    matched: set[str] = field(default_factory=set)
    """Ids of events that follow from the accepted ones."""
    order: dict[UUID, list[str]] = field(default_factory=dict)
    """Ids of what was raised about a member's spikes, as it must lie in the log."""

    def follow(self, events: Sequence[CloudEvent]) -> None:
        """What plans told of one member, in order: spikes and what settles them."""
        for event in events:
            if isinstance(event, PainSpiked):
                self._raise(on_pain_spiked(event=event, rules=load_trigger_rules()))
            elif isinstance(event, PainSettled):
                self._settle(event)

    def follow_flags(self, events: Sequence[CloudEvent]) -> None:
        """The red flags of one member, in their order."""
        for event in events:
            assert isinstance(event, SafetyFlagged)
            trigger = on_safety_flagged(event=event, rules=load_trigger_rules())
            if trigger is not None:
                self._raise(trigger)

    def finish(self, now: datetime) -> None:
        """Everything that was due has been done, and nothing else was."""
        for alert_id in list(self.alerts):
            alert = self._escalated(self.alerts[alert_id])
            self.alerts[alert_id] = alert
            overdue = (now - alert.respond_by).total_seconds() > LATE_S
            if overdue and self._escalate(alert, now) is not None:
                self.findings.add("alerts", f"an alert whose time was over at {alert.respond_by} was not escalated")
        for event_id, event in self.observed.items():
            if event_id not in self.matched:
                self.findings.add("alerts", f"{event.type} {event_id} follows from nothing")

    def _raise(self, trigger: Trigger) -> None:
        known = [
            self._escalated(alert)
            for alert in self.alerts.values()
            if (alert.member_id, alert.kind) == (trigger.member_id, trigger.kind)
        ]
        self.alerts |= {alert.alert_id: alert for alert in known}
        # Which alert it is does not depend on when.
        planned = self._raised(trigger, known, datetime.now(UTC))
        event_id = raised_event(alert_id=planned.alert.alert_id, because=trigger.because).id
        found = self.observed.get(event_id)
        if found is None:
            self.findings.add("alerts", f"a {trigger.kind} was told ({trigger.because.__class__.__name__}), not raised")
            change = planned
        else:
            change = self._raised(trigger, known, found.time)
            self._compare(change, found)
        self.alerts[change.alert.alert_id] = change.alert
        if trigger.kind == "pain-spike":
            self.order.setdefault(trigger.member_id, []).append(event_id)

    def _raised(self, trigger: Trigger, known: Sequence[Alert], now: datetime) -> AlertChange:
        teams = {trigger.member_id: self.team}
        (change,) = raise_alerts(triggers=[trigger], known=known, teams=teams, rules=load_alert_rules(), now=now)
        return change

    def _settle(self, event: PainSettled) -> None:
        key = str(event.data.episode_id)
        for alert in list(self.alerts.values()):
            if alert.kind == "pain-spike" and alert.episode_key == key:
                change = settle_alert(alert=self._escalated(alert), because=event, now=event.time)
                if change is not None:
                    self.alerts[alert.alert_id] = change.alert

    def _escalated(self, alert: Alert) -> Alert:
        """The alert after the escalations that the log tells of, each named after the state that it came from."""
        while (found := self.observed.get(_escalation_id(alert))) is not None and found.id not in self.matched:
            change = self._escalate(alert, found.time)
            if change is None:
                self.findings.add("alerts", f"escalated at {found.time}, due {alert.respond_by}")
                self.matched.add(found.id)
                return alert
            self._compare(change, found)
            alert = change.alert
        return alert

    def _escalate(self, alert: Alert, now: datetime) -> AlertChange | None:
        return escalate_alert(alert=alert, team=self.team, rules=load_alert_rules(), because=_timer(alert), now=now)

    def _compare(self, change: AlertChange, found: CloudEvent) -> None:
        self.matched.add(found.id)
        outcomes = Outcomes()
        announce_alerts(outcomes=outcomes, changes=[change])
        (draft,) = outcomes.published
        assert isinstance(found, AlertRaised | AlertEscalated)
        wanted = (draft.event.NAME, draft.member_id, draft.data.model_dump())
        self.findings.same("alerts", change.action, wanted, (found.NAME, found.subject, found.data.model_dump()))


def _timer(alert: Alert) -> Timer:
    return Timer(
        kind=ESCALATION, key=str(alert.alert_id), member_id=alert.member_id, due_at=alert.respond_by, cause=alert.cause
    )


def _escalation_id(alert: Alert) -> str:
    due_at = alert.respond_by.astimezone(UTC).isoformat()
    cause = alert.cause
    return derive_id(f"messaging timer {ESCALATION} {alert.alert_id} {due_at} {cause.source} {cause.id} 0")


def comparable(alert: Alert) -> tuple[object, ...]:
    """An alert without the moment at which its pain settled, of which no event tells."""
    settled = alert.settled_at is not None
    cause = (alert.cause.source, alert.cause.id)
    bare = replace(alert, settled_at=None, cause=alert.cause._replace(traceparent=None))
    return (cause, settled, bare)
