"""Whatever people and timers do about an alert, in whatever order: until it is resolved, somebody sees it or will."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.messaging.domain.alert import Alert, AlertChange
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    close_alert,
    follow_care_team,
    hand_over_alert,
    remind_alert,
    settle_alert,
    snooze_alert,
    undo_acknowledgement,
    wake_alert,
)
from services.messaging.domain.alert_raising import escalate_alert, raise_alerts
from services.messaging.domain.people import CareTeam
from services.messaging.store.alerts import ESCALATION, FOLLOW_UP, SNOOZE, timer_of
from services.messaging.store.rules import load_alert_rules
from shared.events.vocabulary import AlertKind, AlertPriority, Practitioner, PractitionerRole
from shared.outcomes import Cause, Command, Refusal, Timer
from tests.messaging.given import COACH, MEMBER, NOW, ONCALL, PT, settled, team_assigned, trigger

RULES = load_alert_rules()
WHO = st.sampled_from((PT, COACH, ONCALL))
TEAMS = st.sampled_from((
    CareTeam(pt=PT, coach=COACH),
    CareTeam(pt=PT, coach=COACH, absent=frozenset({COACH.practitioner_id})),
    CareTeam(pt=PT, coach=COACH, absent=frozenset({PT.practitioner_id, COACH.practitioner_id})),
    CareTeam(pt=PT, coach=None),
))  # fmt: skip
DECIDES: Final[dict[str, Callable[..., AlertChange | None]]] = {
    ESCALATION: escalate_alert, SNOOZE: wake_alert, FOLLOW_UP: remind_alert,
}  # fmt: skip
COMMAND = Command(name="handle-alert", id="1", member_id=MEMBER, cause=Cause(source="s", id="i", chain="c"))
SPANS = st.sampled_from([timedelta(seconds=5), timedelta(minutes=12), timedelta(hours=9), timedelta(days=4)])


class AlertLife(RuleBasedStateMachine):
    """One alert with the timer that its store sets for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOW
        self.team = CareTeam(pt=PT, coach=COACH)
        self.alert: Alert | None = None
        self.timer: Timer | None = None
        self.nobody_left = False
        """The ladder has ended: it stays in the queue, overdue."""

    def take(self, change: AlertChange | Refusal | None) -> None:
        if isinstance(change, AlertChange):
            self.alert, self.timer, self.nobody_left = change.alert, timer_of(change.alert), False

    @rule(kind=st.sampled_from(("safety", "pain-spike", "lapse")), priority=st.sampled_from(("urgent", "emergency")))
    def something_happens(self, kind: AlertKind, priority: AlertPriority) -> None:
        asks = trigger(self.alert.kind if self.alert else kind, priority)
        known = [self.alert] if self.alert else []
        (change,) = raise_alerts(triggers=[asks], known=known, teams={MEMBER: self.team}, rules=RULES, now=self.now)
        self.take(change)

    @rule(team=TEAMS, is_first=st.booleans())
    def the_care_team_changes(self, team: CareTeam, is_first: bool) -> None:
        self.team = team
        if self.alert is not None:
            told = team_assigned(at=self.now)
            self.take(follow_care_team(
                alert=self.alert, team=team, is_first=is_first, because=told, rules=RULES, now=self.now
            ))  # fmt: skip

    @precondition(lambda self: self.alert is not None)
    @rule(by=WHO, sees=st.booleans())
    def somebody_acknowledges(self, by: Practitioner, sees: bool) -> None:
        assert self.alert is not None
        seen = self.alert.repeats if sees else None
        self.take(acknowledge_alert(alert=self.alert, by=by, seen=seen, because=COMMAND, now=self.now))

    @precondition(lambda self: self.alert is not None)
    @rule(by=WHO)
    def somebody_undoes_it(self, by: Practitioner) -> None:
        assert self.alert is not None
        self.take(undo_acknowledgement(alert=self.alert, by=by, because=COMMAND, rules=RULES, now=self.now))

    @precondition(lambda self: self.alert is not None)
    @rule(by=WHO, span=SPANS)
    def somebody_puts_it_off(self, by: Practitioner, span: timedelta) -> None:
        assert self.alert is not None
        self.take(snooze_alert(
            alert=self.alert, by=by, until=self.now + span, seen=self.alert.repeats, because=COMMAND, rules=RULES,
            now=self.now,
        ))  # fmt: skip

    @precondition(lambda self: self.alert is not None)
    @rule(by=WHO, to_role=st.sampled_from(("pt", "coach", "oncall")))
    def somebody_hands_it_over(self, by: Practitioner, to_role: PractitionerRole) -> None:
        assert self.alert is not None
        self.take(hand_over_alert(
            alert=self.alert, by=by, to_role=to_role, team=self.team, seen=self.alert.repeats, because=COMMAND,
            rules=RULES, now=self.now,
        ))  # fmt: skip

    @precondition(lambda self: self.alert is not None)
    @rule()
    def the_pain_settles(self) -> None:
        assert self.alert is not None
        self.take(settle_alert(alert=self.alert, because=settled(at=self.now), now=self.now))

    @precondition(lambda self: self.alert is not None)
    @rule(by=WHO)
    def somebody_resolves_it(self, by: Practitioner) -> None:
        assert self.alert is not None
        self.take(close_alert(
            alert=self.alert, by=by, outcome="reached-member", note=None, seen=self.alert.repeats, because=COMMAND,
            now=self.now,
        ))  # fmt: skip

    @rule(span=SPANS)
    def time_passes(self, span: timedelta) -> None:
        """Timers run when they are due."""
        until = self.now + span
        while self.timer is not None and self.timer.due_at <= until:
            due, self.timer = self.timer, None
            self.now = max(self.now, due.due_at)
            assert self.alert is not None
            change = DECIDES[due.kind](
                alert=self.alert, team=self.team, rules=RULES, because=due, now=self.now,
            )  # fmt: skip
            self.nobody_left = change is None and due.kind == ESCALATION
            self.take(change)
        self.now = until

    @invariant()
    def it_is_in_the_queue_or_comes_back_to_it(self) -> None:
        if self.alert is None or self.alert.status == "resolved":
            assert self.timer is None
        elif self.alert.status == "open":
            assert self.alert.snoozed_until is None, "nobody sees it"
            assert self.timer is not None or self.nobody_left
        else:
            assert self.timer is not None, "nobody is asked again"


TestAlertLife = AlertLife.TestCase
TestAlertLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
