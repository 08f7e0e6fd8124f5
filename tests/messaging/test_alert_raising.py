"""When an alert is raised, repeated and escalated."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.messaging.domain.alert import ESCALATION_LEVEL_MAX, PRIORITIES, Alert, AlertChange
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    follow_care_team,
    hand_over_alert,
    resolve_alert,
    snooze_alert,
    undo_acknowledgement,
    wake_alert,
)
from services.messaging.domain.alert_raising import choose_owner, escalate_alert, raise_alerts
from services.messaging.domain.people import CareTeam
from services.messaging.store.rules import load_alert_rules
from shared.events.vocabulary import AlertKind, AlertPriority, Practitioner, PractitionerRole
from shared.outcomes import Cause, Command, Refusal, Timer
from tests.messaging.given import COACH, DAY, HOUR, MEMBER, MINUTE, NOW, PT, STRANGER, team_assigned, trigger

RULES = load_alert_rules()
TEAM = CareTeam(pt=PT, coach=COACH)
TIMER = Timer(
    kind="alert.escalation", key="k", member_id=MEMBER, due_at=NOW, cause=Cause(source="s", id="i", chain="c")
)
COMMAND = Command(name="acknowledge-alert", id="1", member_id=MEMBER, cause=Cause(source="s", id="i", chain="c"))


def changed(answer: AlertChange | Refusal | None) -> Alert:
    assert isinstance(answer, AlertChange), answer
    return answer.alert


def refused(answer: AlertChange | Refusal | None) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.reason


def raised(
    kind: str = "pain-spike", priority: str = "soon", *, team: CareTeam | None = TEAM, known: Sequence[Alert] = (),
    key: str = "episode", now: datetime = NOW,
) -> AlertChange:  # fmt: skip
    (change,) = raise_alerts(
        triggers=[trigger(kind, priority, key=key)], known=list(known), teams={MEMBER: team} if team else {},
        rules=RULES, now=now,
    )  # fmt: skip
    return change


def escalated(alert: Alert, *, team: CareTeam = TEAM, now: datetime | None = None) -> AlertChange | None:
    return escalate_alert(alert=alert, team=team, rules=RULES, because=TIMER, now=now or alert.respond_by)


def test_a_spike_asks_the_coach_first() -> None:
    alert = raised().alert
    assert (alert.owner.role, alert.owner.practitioner, alert.level, alert.status) == ("coach", COACH, 0, "open")
    assert alert.respond_by == NOW + RULES.respond_within["soon"]


@pytest.mark.parametrize(("priority", "role"), [("emergency", "oncall"), ("urgent", "pt"), ("soon", "pt")])
def test_a_safety_alert_asks_by_priority(priority: str, role: str) -> None:
    assert raised("safety", priority).alert.owner.role == role


def test_without_a_care_team_the_oncall_role_is_asked_for_every_kind() -> None:
    for kind in get_args(AlertKind):
        alert = raised(kind, "urgent", team=None).alert
        assert (alert.owner.role, alert.owner.practitioner) == ("oncall", None)


def test_the_absent_are_skipped() -> None:
    assert raised(team=replace(TEAM, absent=frozenset({COACH.practitioner_id}))).alert.owner.practitioner == PT
    both = frozenset({COACH.practitioner_id, PT.practitioner_id})
    assert raised(team=replace(TEAM, absent=both)).alert.owner.role == "oncall"


def test_escalation_goes_from_coach_to_pt_to_oncall_and_asks_oncall_again_until_the_last_level() -> None:
    asked, alert = ["coach"], raised().alert
    reasons: list[str] = []
    while change := escalated(alert):
        assert change.decision
        assert (change.decision.rule_id, change.decision.rule_version) == ("messaging.ladder", 1)
        assert [ref.id for ref in change.decision.evidence] == [alert.cause.id]
        reasons.append(change.decision.reason)
        assert change.alert.respond_by > alert.respond_by
        alert = change.alert
        asked.append(alert.owner.role)
    assert asked == ["coach", "pt", "oncall", "oncall", "oncall", "oncall"]
    within = "Nobody acknowledged this soon alert within 8 hours:"
    assert reasons[:2] == [f"{within} the physical therapist is asked.", f"{within} whoever is on call is asked."]
    assert reasons[2:] == [f"{within} whoever is on call is asked again."] * 3
    assert alert.level == ESCALATION_LEVEL_MAX
    assert alert.status == "open", "still in the queue, overdue"


def test_a_repeat_asks_who_was_asked_last_and_not_from_the_first_in_line_again() -> None:
    """They have let it lie once; unless it got worse, which is for whoever that asks first."""
    asked_pt = changed(escalated(raised().alert))
    again = raised(known=[asked_pt]).alert
    assert (again.owner.practitioner, again.level, again.repeats) == (PT, 1, 1)
    assert changed(escalated(again)).owner.role == "oncall"
    worse = raised(priority="urgent", known=[asked_pt]).alert
    assert (worse.owner, worse.level) == (raised(priority="urgent").alert.owner, 0)


def test_a_repeat_does_not_ask_who_is_away_by_now() -> None:
    away = replace(TEAM, absent=frozenset({COACH.practitioner_id}))
    assert raised(known=[raised().alert], team=away).alert.owner.practitioner == PT


def test_a_routine_alert_ends_with_the_pt_who_is_there() -> None:
    alert = raised("lapse", "routine").alert
    alert = changed(escalated(alert))
    assert alert.owner.practitioner == PT
    assert escalated(alert) is None


@given(absent_pt=st.booleans(), absent_coach=st.booleans(), kind=st.sampled_from(get_args(AlertKind)),
       priority=st.sampled_from(PRIORITIES))  # fmt: skip
@settings(max_examples=150)
def test_nobody_absent_is_ever_asked_and_escalation_ends(
    absent_pt: bool, absent_coach: bool, kind: AlertKind, priority: AlertPriority
) -> None:
    absent = {p.practitioner_id for p, away in ((PT, absent_pt), (COACH, absent_coach)) if away}
    team = CareTeam(pt=PT, coach=COACH, absent=frozenset(absent))
    alert, steps = raised(kind, priority, team=team).alert, 0
    while True:
        person = alert.owner.practitioner
        assert (person is None) == (alert.owner.role == "oncall")
        assert person is None or person.practitioner_id not in absent
        change = escalated(alert, team=team)
        if change is None:
            break
        assert change.alert.level > alert.level
        alert, steps = change.alert, steps + 1
    assert steps <= ESCALATION_LEVEL_MAX


def test_an_escalation_that_is_early_or_moot_does_nothing() -> None:
    alert = raised().alert
    assert escalated(alert, now=alert.respond_by - MINUTE) is None
    seen = changed(acknowledge_alert(alert=alert, by=COACH, seen=0, because=COMMAND, now=NOW))
    assert escalated(seen, now=NOW + 30 * DAY) is None


def test_the_same_episode_is_one_alert_that_asks_again() -> None:
    first = raised().alert
    seen = changed(acknowledge_alert(alert=first, by=COACH, seen=0, because=COMMAND, now=NOW + MINUTE))
    again = raised(known=[seen], now=NOW + DAY)
    assert again.action == "repeated"
    assert (again.alert.alert_id, again.alert.repeats, again.alert.status) == (first.alert_id, 1, "open")
    assert again.alert.owner.practitioner == COACH
    assert again.alert.respond_by == NOW + DAY + RULES.respond_within["soon"]


def test_a_repeat_of_a_resolved_episode_opens_it_again() -> None:
    done = resolve_alert(alert=raised().alert, by=COACH, outcome="reached-member", note=None, because=COMMAND, now=NOW)
    again = raised(known=[changed(done)], now=NOW + DAY).alert
    assert (again.status, again.outcome, again.resolved_at, again.owner.practitioner) == ("open", None, None, COACH)


def test_another_episode_is_another_alert() -> None:
    first = raised(key="one").alert
    assert raised(known=[first], key="two").alert.alert_id != first.alert_id


def test_red_flags_of_one_member_join_the_unresolved_safety_alert_and_only_get_more_urgent() -> None:
    first = raised("safety", "soon", key="flag 1").alert
    worse = raised("safety", "emergency", key="flag 2", known=[first])
    assert (worse.alert.alert_id, worse.alert.priority, worse.alert.owner.role) == (
        first.alert_id,
        "emergency",
        "oncall",
    )
    milder = raised("safety", "soon", key="flag 3", known=[worse.alert])
    assert milder.alert.priority == "emergency"
    done = changed(resolve_alert(alert=milder.alert, by=PT, outcome="referred", note=None, because=COMMAND, now=NOW))
    assert raised("safety", "soon", key="flag 4", known=[done]).alert.alert_id != first.alert_id


@given(first=st.sampled_from(PRIORITIES), second=st.sampled_from(PRIORITIES), later=st.integers(0, 100_000))
def test_a_repeat_never_gives_an_unanswered_alert_more_time(first: str, second: str, later: int) -> None:
    alert = raised("safety", first, key="a").alert
    again = raised("safety", second, key="b", known=[alert], now=NOW + timedelta(seconds=later)).alert
    assert again.respond_by <= alert.respond_by


def test_two_triggers_of_one_chunk_are_raised_and_then_repeated() -> None:
    changes = raise_alerts(triggers=[trigger(), trigger()], known=[], teams={MEMBER: TEAM}, rules=RULES, now=NOW)
    assert [change.action for change in changes] == ["raised", "repeated"]


def test_the_first_to_acknowledge_wins_and_the_second_learns_who() -> None:
    seen = changed(acknowledge_alert(alert=raised().alert, by=PT, seen=0, because=COMMAND, now=NOW))
    second = acknowledge_alert(alert=seen, by=COACH, seen=0, because=COMMAND, now=NOW)
    assert second == Refusal("already-acknowledged", "Acknowledged by Petra Therapist.")


def test_undo_is_for_some_seconds_and_for_who_did_it() -> None:
    alert = raised().alert
    seen = changed(acknowledge_alert(alert=alert, by=COACH, seen=0, because=COMMAND, now=NOW))

    def undo(by: Practitioner, after_s: int) -> AlertChange | Refusal:
        at = NOW + timedelta(seconds=after_s)
        return undo_acknowledgement(alert=seen, by=by, because=COMMAND, rules=RULES, now=at)

    undone = changed(undo(COACH, 15))
    assert replace(undone, cause=alert.cause) == alert
    assert undone.cause.chain == COMMAND.cause.chain
    assert undone.cause.id != alert.cause.id, "it asks anew"
    assert refused(undo(COACH, 16)) == "too-late"
    assert refused(undo(PT, 1)) == "not-yours"
    again = undo_acknowledgement(alert=alert, by=COACH, because=COMMAND, rules=RULES, now=NOW)
    assert refused(again) == "not-acknowledged"


def test_a_snoozed_alert_comes_back_open_to_who_put_it_off() -> None:
    until = NOW + 3 * HOUR
    asleep = changed(
        snooze_alert(alert=raised().alert, by=PT, until=until, seen=0, because=COMMAND, rules=RULES, now=NOW)
    )
    assert escalated(asleep, now=NOW + 30 * DAY) is None
    assert wake_alert(alert=asleep, team=TEAM, because=TIMER, rules=RULES, now=until - MINUTE) is None
    awake = changed(wake_alert(alert=asleep, team=TEAM, because=TIMER, rules=RULES, now=until))
    assert (awake.status, awake.owner.practitioner, awake.snoozed_until) == ("open", PT, None)
    assert awake.respond_by == until + RULES.respond_within["soon"]


@pytest.mark.parametrize(
    ("priority", "until", "reason"),
    [("emergency", NOW + HOUR, "emergency"), ("soon", NOW, "not-ahead"), ("soon", NOW + 8 * DAY, "too-long")],
)
def test_what_cannot_be_put_off(priority: str, until: datetime, reason: str) -> None:
    alert = raised("safety", priority).alert
    answer = snooze_alert(alert=alert, by=PT, until=until, seen=0, because=COMMAND, rules=RULES, now=NOW)
    assert refused(answer) == reason


def test_it_can_be_put_off_for_as_long_as_is_said() -> None:
    until = NOW + RULES.snooze_max
    answer = snooze_alert(
        alert=raised().alert, by=PT, until=until, seen=0, because=COMMAND, rules=RULES, now=NOW
    )  # fmt: skip
    assert changed(answer).snoozed_until == until


def test_handing_over_asks_the_other_with_a_new_deadline() -> None:
    seen = changed(acknowledge_alert(alert=raised().alert, by=COACH, seen=0, because=COMMAND, now=NOW))

    def give(role: PractitionerRole, team: CareTeam = TEAM) -> AlertChange | Refusal:
        return hand_over_alert(
            alert=seen, by=COACH, to_role=role, team=team, seen=0, because=COMMAND, rules=RULES, now=NOW + HOUR
        )

    given_over = changed(give("pt"))
    assert (given_over.status, given_over.owner.practitioner, given_over.level) == ("open", PT, 1)
    assert given_over.respond_by == NOW + HOUR + RULES.respond_within["soon"]
    assert changed(escalated(given_over)).owner.role == "oncall"
    assert refused(give("pt", replace(TEAM, absent=frozenset({PT.practitioner_id})))) == "nobody-there"


def test_resolved_is_final_for_people() -> None:
    done = changed(
        resolve_alert(alert=raised().alert, by=PT, outcome="plan-adjusted", note=None, because=COMMAND, now=NOW)
    )
    for act in (
        acknowledge_alert(alert=done, by=COACH, seen=0, because=COMMAND, now=NOW),
        snooze_alert(alert=done, by=COACH, until=NOW + HOUR, seen=0, because=COMMAND, rules=RULES, now=NOW),
        resolve_alert(alert=done, by=COACH, outcome="referred", note=None, because=COMMAND, now=NOW),
    ):
        assert act == Refusal("already-resolved", "Resolved by Petra Therapist.")
    left = CareTeam(coach=STRANGER)
    for is_first in (True, False):
        moved = follow_care_team(
            alert=done, team=left, is_first=is_first, because=team_assigned(), rules=RULES, now=NOW
        )
        assert moved is None


def test_the_owner_of_a_rung_nobody_stands_on_is_oncall() -> None:
    level, owner = choose_owner(ladder=("coach", "pt"), team=CareTeam(coach=STRANGER), from_level=1)
    assert (level, owner.role) == (2, "oncall")
