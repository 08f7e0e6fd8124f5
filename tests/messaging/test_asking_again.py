"""What joined an alert after somebody looked, and an alert that was taken on and forgotten."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from services.messaging.domain.alert import Alert, AlertChange
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    close_alert,
    hand_over_alert,
    remind_alert,
    resolve_alert,
    snooze_alert,
)
from services.messaging.domain.alert_raising import escalate_alert
from services.messaging.domain.people import CareTeam
from services.messaging.handlers import handle_alerts
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts
from services.messaging.store.alerts import load_alert_queue, load_member_alerts
from services.messaging.store.rules import load_alert_rules
from shared.events.vocabulary import Practitioner
from shared.outcomes import Refusal
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, DAY, HOUR, MEMBER, MINUTE, NOW, ONCALL, PT, flagged, spiked
from tests.messaging.test_alert_raising import COMMAND, RULES, TEAM, TIMER, changed, raised

MIGRATIONS = Path(handle_alerts.__file__).parents[1] / "migrations"


def answers(alert: Alert, *, seen: int | None) -> dict[str, AlertChange | Refusal]:
    """What becomes of each command on this alert."""
    return {
        "acknowledge": acknowledge_alert(alert=alert, by=COACH, seen=seen, because=COMMAND, now=NOW),
        "snooze": snooze_alert(
            alert=alert, by=COACH, until=NOW + HOUR, seen=seen, because=COMMAND, rules=RULES, now=NOW
        ),
        "hand-over": hand_over_alert(
            alert=alert, by=COACH, to_role="pt", team=TEAM, seen=seen, because=COMMAND, rules=RULES, now=NOW
        ),
        "resolve": close_alert(
            alert=alert, by=COACH, outcome="referred", note=None, seen=seen, because=COMMAND, now=NOW
        ),
    }  # fmt: skip


def refusals(alert: Alert, *, seen: int | None) -> dict[str, str]:
    return {name: a.reason for name, a in answers(alert, seen=seen).items() if isinstance(a, Refusal)}


def taken(alert: Alert, *, by: Practitioner = COACH, now: datetime = NOW) -> Alert:
    return changed(acknowledge_alert(alert=alert, by=by, seen=alert.repeats, because=COMMAND, now=now))


def reminded(alert: Alert, *, now: datetime, team: CareTeam = TEAM) -> AlertChange | None:
    return remind_alert(alert=alert, team=team, because=TIMER, rules=RULES, now=now)


def test_nothing_is_done_about_what_asked_again_after_one_looked() -> None:
    alert = raised().alert
    assert refusals(alert, seen=0) == {}
    again = raised(known=[alert]).alert
    assert refusals(again, seen=0) == dict.fromkeys(("acknowledge", "snooze", "hand-over", "resolve"), "asked-again")
    assert refusals(again, seen=1) == {}
    assert refusals(again, seen=2) == refusals(again, seen=0), "nobody has seen what has not been"


def test_who_was_first_is_told_before_that_it_asked_again() -> None:
    again = raised(known=[raised().alert]).alert
    assert refusals(taken(again, by=PT), seen=0)["acknowledge"] == "already-acknowledged"
    done = resolve_alert(alert=again, by=PT, outcome="referred", note=None, because=COMMAND, now=NOW)
    assert set(refusals(changed(done), seen=0).values()) == {"already-resolved"}


def test_a_snooze_of_what_became_an_emergency_says_that_it_asked_again() -> None:
    worse = raised("safety", "emergency", key="2", known=[raised("safety", "soon", key="1").alert]).alert
    assert refusals(worse, seen=0)["snooze"] == "asked-again"


def test_without_saying_what_one_saw_one_can_take_on_but_not_put_away_what_nobody_took_on() -> None:
    alert = raised().alert
    assert refusals(alert, seen=None) == dict.fromkeys(("snooze", "hand-over", "resolve"), "not-seen")
    mine = taken(alert)
    assert refusals(mine, seen=None) == {"acknowledge": "already-acknowledged"}
    again = raised(known=[mine]).alert
    assert refusals(again, seen=None) == dict.fromkeys(("snooze", "hand-over", "resolve"), "not-seen")


@pytest.mark.parametrize(
    ("priority", "said"),
    [("emergency", "30 minutes"), ("urgent", "4 hours"), ("soon", "3 days"), ("routine", "14 days")],
)
def test_what_was_taken_on_and_left_asks_again_who_took_it_and_then_the_next(priority: str, said: str) -> None:
    mine = taken(raised("pain-spike", priority).alert)
    due = NOW + RULES.resolve_within[mine.priority]
    again = reminded(mine, now=due)
    assert again
    asks = again.alert
    assert (again.action, asks.status, asks.owner.practitioner, asks.repeats) == ("reminded", "open", COACH, 0)
    assert asks.respond_by == due + RULES.respond_within[asks.priority]
    assert asks.cause.id != mine.cause.id, "it asks anew"
    assert again.decision
    assert (again.decision.rule_id, [ref.id for ref in again.decision.evidence]) == (
        "messaging.follow-up", [mine.cause.id],
    )  # fmt: skip
    assert again.decision.reason.endswith(f"within {said}: the coach is asked again.")
    order = ["coach"]
    while change := escalate_alert(alert=asks, team=TEAM, rules=RULES, because=TIMER, now=asks.respond_by):
        asks = change.alert
        order.append(asks.owner.role)
    assert order[:3] == ["coach", "pt", "oncall"]


def test_the_ladder_goes_on_after_the_rung_of_who_took_it() -> None:
    again = changed(reminded(taken(raised().alert, by=PT), now=NOW + 30 * DAY))
    assert again.owner.practitioner == PT
    then = escalate_alert(alert=again, team=TEAM, rules=RULES, because=TIMER, now=again.respond_by)
    assert changed(then).owner.role == "oncall"


def test_a_reminder_of_somebody_absent_asks_the_first_who_is_there() -> None:
    mine, away = taken(raised().alert), replace(TEAM, absent=frozenset({COACH.practitioner_id}))
    assert changed(reminded(mine, now=NOW + 30 * DAY, team=away)).owner.practitioner == PT


def test_nobody_is_reminded_of_what_is_put_off_or_done_or_open() -> None:
    alert = raised().alert
    asleep = changed(answers(taken(alert), seen=0)["snooze"])
    done = changed(answers(taken(alert), seen=0)["resolve"])
    assert [reminded(a, now=NOW + 30 * DAY) for a in (alert, asleep, done)] == [None, None, None]


def test_what_asks_again_only_because_it_was_left_can_be_resolved_by_who_saw_it_before() -> None:
    again = changed(reminded(taken(raised().alert), now=NOW + 30 * DAY))
    assert refusals(again, seen=0) == {}
    assert refusals(again, seen=None) == {}, "somebody has acknowledged what it asks"
    asleep = changed(snooze_alert(
        alert=again, by=PT, until=NOW + HOUR, seen=0, because=COMMAND, rules=RULES, now=NOW))  # fmt: skip
    assert (asleep.acknowledged_by, asleep.acknowledged_at) == (PT, NOW)


async def the_alert(clinic: Clinic) -> Alert:
    async with clinic.database.acquire() as connection:
        (alert,) = await load_member_alerts(connection, member_ids=[MEMBER])
    return alert


async def test_an_acknowledged_alert_is_not_forgotten(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    due = NOW + load_alert_rules().resolve_within["soon"]
    assert await clinic.due_timers() == {"alert.follow-up": due}
    assert await clinic.pass_time(due - NOW - MINUTE) == []
    (asks,) = await clinic.pass_time(2 * MINUTE)
    assert (asks.NAME, asks.data.repeated, asks.data.owner) == ("alert.raised", True, COACH)
    assert asks.data.decision.rule_id == "messaging.follow-up"
    assert asks.correlationid == alert.cause.chain
    alert = await the_alert(clinic)
    assert (alert.status, alert.acknowledged_by, alert.cause.id) == ("open", COACH, asks.id)
    assert await clinic.due_timers() == {"alert.escalation": alert.respond_by}
    assert {row["action"] for row in await clinic.fetch("select action from alert_actions")} == {
        "raised", "acknowledged", "reminded",
    }  # fmt: skip
    await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=PT, seen=0)
    assert set(await clinic.due_timers()) == {"alert.follow-up"}, "taken on again, it is followed up again"
    await clinic.command(
        handle_alerts.resolve, alert_id=alert.alert_id, by=PT, outcome="reached-member", note=None, seen=0
    )
    assert await clinic.due_timers() == {}


async def test_undoing_or_putting_off_takes_the_follow_up_away(clinic: Clinic) -> None:
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    alert = await the_alert(clinic)
    await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=ONCALL, seen=0)
    await clinic.command(handle_alerts.undo_acknowledge, alert_id=alert.alert_id, by=ONCALL)
    assert set(await clinic.due_timers()) == {"alert.escalation"}
    await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=PT, seen=0)
    await clinic.command(handle_alerts.snooze, alert_id=alert.alert_id, by=PT, until=NOW + HOUR, seen=0)
    assert await clinic.due_timers() == {"alert.snooze": NOW + HOUR}


async def test_who_puts_off_what_they_took_long_ago_cannot_give_it_back_as_if_just_taken(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    alert = await the_alert(clinic)
    took = await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    clinic.now += HOUR
    put_off = await clinic.command(
        handle_alerts.snooze, alert_id=alert.alert_id, by=COACH, until=clinic.now + DAY, seen=0
    )
    assert put_off.alert.acknowledged_at == took.alert.acknowledged_at
    undone = await clinic.command(handle_alerts.undo_acknowledge, alert_id=alert.alert_id, by=COACH)
    assert undone.reason == "too-late"


async def test_what_is_put_off_and_given_back_at_once_asks_as_before(clinic: Clinic) -> None:
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    alert = await the_alert(clinic)
    await clinic.command(handle_alerts.snooze, alert_id=alert.alert_id, by=ONCALL, until=NOW + DAY, seen=0)
    await clinic.command(handle_alerts.undo_acknowledge, alert_id=alert.alert_id, by=ONCALL)
    async with clinic.database.acquire() as connection:
        queue = await load_alert_queue(connection, practitioner_id=PT.practitioner_id, oncall=True)
    assert [(asks.alert_id, asks.respond_by) for asks in queue] == [(alert.alert_id, alert.respond_by)]
    await clinic.pass_time(alert.respond_by - clinic.now)
    assert (await the_alert(clinic)).level == alert.level + 1


async def test_alerts_that_were_open_and_asleep_ask_again(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked())
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    left = "select * from delivery.timers order by key"
    async with clinic.database.acquire() as connection:
        (spike, flag) = await load_member_alerts(connection, member_ids=[MEMBER])
        asleep = spike.alert_id if spike.kind == "safety" else flag.alert_id
        expected = await connection.fetch(left)
        await connection.execute("alter table alerts drop constraint alerts_open_are_awake")
        await connection.execute("update alerts set snoozed_until = $2 where alert_id = $1", asleep, NOW + DAY)
        await connection.execute("delete from delivery.timers where key = $1", str(asleep))
        await connection.execute((MIGRATIONS / "0025_wake_open_alerts.sql").read_text())
        assert await connection.fetch(left) == expected
        assert {a.snoozed_until for a in await load_member_alerts(connection, member_ids=[MEMBER])} == {None}


async def test_alerts_taken_on_before_there_was_a_follow_up_get_one(clinic: Clinic) -> None:
    await clinic.take(follow_plans, spiked(), spiked(episode=MEMBER))
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    left = "select * from delivery.timers where kind = 'alert.follow-up' order by key"
    async with clinic.database.acquire() as connection:
        known = await load_member_alerts(connection, member_ids=[MEMBER])
        for alert in {alert.kind: alert for alert in known}.values():
            await clinic.command(handle_alerts.acknowledge, alert_id=alert.alert_id, by=PT, seen=0)
        expected = await connection.fetch(left)
        assert len(expected) == 2
        await connection.execute("delete from delivery.timers where kind = 'alert.follow-up'")
        await connection.execute((MIGRATIONS / "0022_remind_of_acknowledged_alerts.sql").read_text())
        assert await connection.fetch(left) == expected
