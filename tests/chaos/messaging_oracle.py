"""What messaging must have made of what plans told: alerts, folded by its pure rules.

When something was decided is not in the accepted events: that moment is taken from the event that tells of the
decision. All else about it, its identity first, follows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from services.messaging.domain.alert import Alert, AlertChange, Trigger, raised_event
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    close_alert,
    hand_over_alert,
    remind_alert,
    resolve_alert,
    settle_alert,
    undo_acknowledgement,
    wake_alert,
)
from services.messaging.domain.alert_raising import escalate_alert, raise_alerts
from services.messaging.domain.people import CareTeam
from services.messaging.domain.triggers import (
    on_member_screened,
    on_pain_spiked,
    on_visit_missed,
)
from services.messaging.store.alerts import ESCALATION, FOLLOW_UP
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.events import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    CloudEvent,
    MemberScreened,
    PainSettled,
    PainSpiked,
    VisitCompleted,
    VisitMissed,
)
from shared.outcomes import Command, Outcomes, Refusal, Timer, cause_of
from tests.chaos.clients import NOBODY, NOTE, AlertDeed
from tests.chaos.findings import Findings, derive_id
from tests.chaos.put_offs import PutOff, end_of

LATE_S = 2.0
"""A deadline that passed so long before the end must have been acted on."""


@dataclass(frozen=True)
class Mark:
    """How far an oracle is, to go on from there once more."""

    alerts: dict[UUID, Alert]
    matched: set[str]
    deeds: Counter[AlertDeed]
    told_of: Counter[UUID]
    done_by: dict[tuple[UUID, str], list[AlertAcknowledged | AlertResolved | AlertRaised]]
    put_offs: dict[UUID, list[PutOff]]
    findings: int


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
    deeds: Counter[AlertDeed] = field(default_factory=Counter)
    """What people did about alerts, as the log tells of it."""
    put_offs: dict[UUID, list[PutOff]] = field(default_factory=dict)
    """By alert, in their order; those that have been followed are taken out."""
    or_else: dict[UUID, list[Alert]] = field(default_factory=dict)
    """Alerts as they may be just as well: of two things that joined them, no event tells which came first."""

    def __post_init__(self) -> None:
        self._told_of: Counter[UUID] = Counter()
        """How many events of each alert have been followed."""
        self._done_by: dict[tuple[UUID, str], list[AlertAcknowledged | AlertResolved | AlertRaised]] = {}
        for event in self.observed.values():
            if isinstance(event, AlertAcknowledged | AlertResolved | AlertRaised):
                self._done_by.setdefault((event.data.alert_id, event.causationid or ""), []).append(event)

    def follow(self, events: Sequence[CloudEvent]) -> None:
        """What plans told of one member, in order: spikes and what settles them."""
        for event in events:
            if isinstance(event, PainSpiked):
                self.ask(on_pain_spiked(event=event, rules=load_trigger_rules()))
            elif isinstance(event, PainSettled):
                self._settle(event)

    def follow_screenings(self, events: Sequence[CloudEvent]) -> None:
        """What enrollment told of people: some need a clinician before anything else."""
        for event in events:
            if isinstance(event, MemberScreened):
                trigger = on_member_screened(event=event, rules=load_trigger_rules())
                if trigger is not None:
                    self.ask(trigger)

    def follow_visits(self, events: Sequence[CloudEvent]) -> None:
        """Of one member: an alert about each visit that was missed, closed when it is documented after all."""
        for event in events:
            if isinstance(event, VisitMissed):
                self.ask(on_visit_missed(event=event, rules=load_trigger_rules()))
            elif isinstance(event, VisitCompleted):
                self._close_documented(event)

    def finish(self, now: datetime) -> None:
        """Everything that was due has been done, and nothing else was."""
        for alert_id in list(self.alerts):
            alert = self._advanced(self.alerts[alert_id])
            self.alerts[alert_id] = alert
            overdue = (now - alert.respond_by).total_seconds() > LATE_S
            if overdue and self._escalate(alert, now) is not None:
                self.findings.add("alerts", f"an alert whose time was over at {alert.respond_by} was not escalated")
            if alert.status == "acknowledged":
                timer = follow_up_of(alert) if alert.snoozed_until is None else end_of(alert)
                if (now - timer.due_at).total_seconds() > LATE_S:
                    self.findings.add("alerts", f"{timer.kind}: an alert did not ask again at {timer.due_at}")
        for alert_id, left in self.put_offs.items():
            for one in left:
                self.findings.add("alerts", f"{alert_id} was put off until {one.until}, and was not there to be")
        for event_id, event in self.observed.items():
            if event_id not in self.matched:
                self.findings.add("alerts", f"{event.type} {event_id} follows from nothing")

    def mark(self) -> Mark:
        return Mark(
            dict(self.alerts), set(self.matched), Counter(self.deeds), Counter(self._told_of), dict(self._done_by),
            {alert_id: list(left) for alert_id, left in self.put_offs.items()}, len(self.findings.found),
        )  # fmt: skip

    def back_to(self, mark: Mark) -> None:
        self.alerts, self.matched, self.deeds = dict(mark.alerts), set(mark.matched), Counter(mark.deeds)
        self._told_of, self._done_by = Counter(mark.told_of), dict(mark.done_by)
        self.put_offs = {alert_id: list(left) for alert_id, left in mark.put_offs.items()}
        del self.findings.found[mark.findings :]

    def advance(self, trigger: Trigger) -> list[Alert]:
        """The alerts that this could join, after all that the log tells of them."""
        known = [
            self._advanced(alert)
            for alert in self.alerts.values()
            if (alert.member_id, alert.kind) == (trigger.member_id, trigger.kind)
        ]
        self.alerts |= {alert.alert_id: alert for alert in known}
        return known

    def answer_to(self, trigger: Trigger) -> CloudEvent | None:
        """The event that tells of it, if it comes next."""
        return self.observed.get(self._planned(trigger, self.advance(trigger))[1])

    def _planned(self, trigger: Trigger, known: Sequence[Alert]) -> tuple[AlertChange, str]:
        # Which alert it is does not depend on when.
        planned = self._raised(trigger, known, datetime.now(UTC))
        return planned, raised_event(alert_id=planned.alert.alert_id, because=trigger.because).id

    def ask(self, trigger: Trigger) -> None:
        """After something that needs a person."""
        known = self.advance(trigger)
        planned, event_id = self._planned(trigger, known)
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
                advanced = self._advanced(alert)
                change = settle_alert(alert=advanced, because=event, now=event.time)
                self.alerts[alert.alert_id] = advanced if change is None else change.alert

    def _close_documented(self, event: VisitCompleted) -> None:
        for alert in list(self.alerts.values()):
            if alert.kind == "missed-visit" and alert.episode_key == str(event.data.visit_id):
                found = self.observed.get(derive_id(f"messaging messaging.visits {event.source} {event.id} 0"))
                if found is None:
                    self.findings.add("alerts", "a visit was documented, and the alert that it was missed stays")
                    continue
                change = resolve_alert(
                    alert=alert, by=None, outcome="reached-member", note=None, because=event, now=found.time
                )
                assert isinstance(change, AlertChange)
                self._compare(change, found)
                self.alerts[alert.alert_id] = change.alert

    def _advanced(self, alert: Alert) -> Alert:
        """The alert after all that the log tells of it until something new joins it: escalations, what people did, and
        that nothing came of what they did."""
        while True:
            before, alert = alert, self._reminded(self._woken(self._handled(self._escalated(alert))))
            if alert is before:
                return alert

    def _handled(self, alert: Alert) -> Alert:
        """After what people did about what it asks now: each such event names the one that asks as its cause."""
        for event in self._done_by.pop((alert.alert_id, alert.cause.id), []):
            alert = self._put_off(alert)
            because = Command(name="handle-alert", id="", member_id=alert.member_id, cause=alert.cause)
            if isinstance(event, AlertRaised):
                if alert.status == "acknowledged" and event.id in (_reminder_id(alert), _waking_id(alert)):
                    continue
                alert = self._passed_on(alert, event, because)
                continue
            if isinstance(event, AlertAcknowledged):
                by = event.data.acknowledged_by
                change = acknowledge_alert(alert=alert, by=by, seen=alert.repeats, because=because, now=event.time)
                self.deeds["acknowledged", alert.alert_id, by.practitioner_id, alert.repeats, ""] += 1
            else:
                by_whom, outcome = event.data.resolved_by, event.data.outcome
                if by_whom is None:
                    self.findings.add("alerts", "an alert was closed by nobody")
                    continue
                change = close_alert(
                    alert=alert, by=by_whom, outcome=outcome, note=NOTE, seen=alert.repeats, because=because,
                    now=event.time,
                )  # fmt: skip
                self.deeds["resolved", alert.alert_id, by_whom.practitioner_id, alert.repeats, outcome] += 1
            if isinstance(change, Refusal):
                self.findings.add("alerts", f"{event.type} {event.id} should have been refused: {change.reason}")
                self.matched.add(event.id)
                continue
            self._compare(change, event)
            alert = change.alert
        return self._put_off(alert)

    def _put_off(self, alert: Alert) -> Alert:
        """After it was put off, where that was behind the events that have been followed."""
        left = self.put_offs.get(alert.alert_id, [])
        while left and left[0].behind == self._told_of[alert.alert_id]:
            one = left.pop(0)
            asleep = one.put(alert)
            if isinstance(asleep, Refusal):
                self.findings.add("alerts", f"put off until {one.until}, should have been refused: {asleep.reason}")
                continue
            until = one.until.isoformat()
            self.deeds["put off", alert.alert_id, one.by.practitioner_id, alert.repeats, until] += 1
            alert = asleep
        return alert

    def _woken(self, alert: Alert) -> Alert:
        """After it came back because the time was over for which it was put off."""
        waking_id = _waking_id(alert)
        found = self.observed.get(waking_id) if waking_id is not None else None
        if found is None:
            return alert
        timer = end_of(alert)
        change = wake_alert(alert=alert, team=self.team, because=timer, rules=load_alert_rules(), now=found.time)
        if change is None:
            self.findings.add("alerts", f"woke at {found.time}, due {timer.due_at}")
            self.matched.add(found.id)
            return alert
        self._compare(change, found)
        return change.alert

    def _passed_on(self, alert: Alert, event: AlertRaised, because: Command) -> Alert:
        """After who had taken it on gave it back, or somebody handed it over: it asks again. Only what it asks tells
        which; its identity is that of a request, which nobody else knows."""
        rules, by, role = load_alert_rules(), alert.acknowledged_by, event.data.owner_role
        change: AlertChange | Refusal | None = None
        if by is not None and event.data.respond_by == max(alert.respond_by, event.time):
            change = undo_acknowledgement(alert=alert, by=by, because=because, rules=rules, now=event.time)
            deed: AlertDeed = ("undone", alert.alert_id, by.practitioner_id, alert.repeats, "")
        if change is None or isinstance(change, Refusal):
            anybody = self.team.pt or self.team.coach
            assert anybody is not None
            change = hand_over_alert(
                alert=alert, by=anybody, to_role=role, team=self.team, seen=alert.repeats, because=because,
                rules=rules, now=event.time,
            )  # fmt: skip
            deed = ("handed over", alert.alert_id, NOBODY, alert.repeats, role)
        if isinstance(change, Refusal):
            self.findings.add("alerts", f"{event.type} {event.id} should have been refused: {change.reason}")
            self.matched.add(event.id)
            return alert
        self.deeds[deed] += 1
        asking = replace(change.alert, cause=cause_of(event))
        self._compare(replace(change, alert=asking), event)
        return asking

    def _reminded(self, alert: Alert) -> Alert:
        """After it asked again because nothing had come of it."""
        if alert.status != "acknowledged" or alert.snoozed_until is not None:
            return alert
        timer = follow_up_of(alert)
        found = self.observed.get(_reminder_id(alert))
        if found is None:
            return alert
        change = remind_alert(alert=alert, team=self.team, because=timer, rules=load_alert_rules(), now=found.time)
        assert change is not None
        if found.time < timer.due_at:
            self.findings.add("alerts", f"asked again at {found.time}, due {timer.due_at}")
        self._compare(change, found)
        return change.alert

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
        self._told_of[change.alert.alert_id] += 1
        outcomes = Outcomes()
        announce_alerts(outcomes=outcomes, changes=[change])
        (draft,) = outcomes.published
        assert isinstance(found, AlertRaised | AlertEscalated | AlertAcknowledged | AlertResolved)
        wanted = (draft.event.NAME, draft.member_id, draft.data.model_dump(), cause_of(change.because)[:3])
        cause = (found.causationsource, found.causationid, found.correlationid)
        there = (found.NAME, found.subject, found.data.model_dump(), cause)
        self.findings.same("alerts", change.action, wanted, there)

    def hold_against(self, done: Counter[AlertDeed], perhaps: Counter[AlertDeed]) -> None:
        """What people were told that they did, they did once, and nothing else."""
        for deed in self.deeds.keys() | done.keys():
            if not done[deed] <= self.deeds[deed] <= done[deed] + perhaps[deed]:
                self.findings.add("alerts", f"{deed[0]}: told {done[deed]} times, done {self.deeds[deed]} times")


def _timer(alert: Alert) -> Timer:
    return Timer(
        kind=ESCALATION, key=str(alert.alert_id), member_id=alert.member_id, due_at=alert.respond_by, cause=alert.cause
    )


def follow_up_of(alert: Alert) -> Timer:
    assert alert.acknowledged_at is not None
    due_at = alert.acknowledged_at + load_alert_rules().resolve_within[alert.priority]
    return Timer(kind=FOLLOW_UP, key=str(alert.alert_id), member_id=alert.member_id, due_at=due_at, cause=alert.cause)


def _reminder_id(alert: Alert) -> str:
    return raised_event(alert_id=alert.alert_id, because=follow_up_of(alert)).id


def _waking_id(alert: Alert) -> str | None:
    """None where it is not asleep."""
    if alert.status != "acknowledged" or alert.snoozed_until is None:
        return None
    return raised_event(alert_id=alert.alert_id, because=end_of(alert)).id


def _escalation_id(alert: Alert) -> str:
    due_at = alert.respond_by.astimezone(UTC).isoformat()
    cause = alert.cause
    return derive_id(f"messaging timer {ESCALATION} {alert.alert_id} {due_at} {cause.source} {cause.id} 0")


def comparable(alert: Alert) -> tuple[object, ...]:
    """An alert without the moment at which its pain settled, of which no event tells; nor whether that was before a
    person closed it."""
    settled = alert.settled_at is not None and alert.status != "resolved"
    cause = (alert.cause.source, alert.cause.id)
    bare = replace(alert, settled_at=None, cause=alert.cause._replace(traceparent=None))
    return (cause, settled, bare)
