"""A command about an alert that comes again, because its answer was lost or a copy was held up on its way."""

from collections.abc import Mapping
from typing import Any

import pytest

from services.messaging.domain.alert import Alert
from services.messaging.handlers.handle_alerts import acknowledge, hand_over, resolve, snooze, undo_acknowledge
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts
from shared.outcomes import Refusal
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, HOUR, MINUTE, NOW, PT, flagged
from tests.messaging.test_alerts import alerts, the_alert

KEY = "the-same"
NOBODY_DECIDED = ("open", None)


async def steps(clinic: Clinic) -> list[str]:
    return [row["action"] for row in await clinic.fetch("select action from alert_actions order by action_id")]


async def flag(clinic: Clinic) -> Alert:
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    return await the_alert(clinic)


async def test_a_copy_that_was_held_up_does_not_take_on_what_was_given_back(clinic: Clinic) -> None:
    """Its process slept, the app asked another one, and its person gave the alert back. Taken on once more, nobody
    else would ever be asked."""
    values: Mapping[str, Any] = {"alert_id": (await flag(clinic)).alert_id, "by": PT}
    await clinic.command(acknowledge, command_id=KEY, seen=0, **values)
    await clinic.command(undo_acknowledge, **values)
    before, timers, published = await the_alert(clinic), await clinic.due_timers(), list(clinic.published)
    late = await clinic.command(acknowledge, command_id=KEY, seen=0, **values)
    assert (late.is_repeat, late.alert) == (True, before), "it is told how things are now"
    assert (before.status, before.acknowledged_by) == NOBODY_DECIDED
    assert (await the_alert(clinic), await clinic.due_timers(), clinic.published) == (before, timers, published)
    assert await steps(clinic) == ["raised", "acknowledged", "undone"]
    assert "alert.escalation" in timers


@pytest.mark.parametrize(
    ("handler", "values", "then"),
    [
        (snooze, {"until": NOW + HOUR, "seen": 0}, "hand over"),
        (hand_over, {"to_role": "coach", "seen": 0}, "acknowledge"),
        (resolve, {"outcome": "reached-member", "note": None, "seen": 0}, ""),
    ],
)
async def test_every_command_acts_once(clinic: Clinic, handler: Any, values: Mapping[str, Any], then: str) -> None:
    alert = await flag(clinic)
    first = await clinic.command(handler, command_id=KEY, alert_id=alert.alert_id, by=PT, **values)
    assert not first.is_repeat
    if then == "hand over":
        await clinic.command(hand_over, alert_id=alert.alert_id, by=PT, to_role="coach", seen=0)
    elif then == "acknowledge":
        await clinic.command(acknowledge, alert_id=alert.alert_id, by=COACH, seen=0)
    before, count = await the_alert(clinic), len(clinic.published)
    late = await clinic.command(handler, command_id=KEY, alert_id=alert.alert_id, by=PT, **values)
    assert (late.is_repeat, late.alert, await the_alert(clinic), len(clinic.published)) == (True, before, before, count)


async def test_giving_back_acts_once(clinic: Clinic) -> None:
    values: Mapping[str, Any] = {"alert_id": (await flag(clinic)).alert_id, "by": PT}
    await clinic.command(acknowledge, seen=0, **values)
    await clinic.command(undo_acknowledge, command_id=KEY, **values)
    await clinic.command(acknowledge, seen=0, **values)
    late = await clinic.command(undo_acknowledge, command_id=KEY, **values)
    assert (late.is_repeat, (await the_alert(clinic)).status) == (True, "acknowledged")


async def test_a_command_that_was_refused_may_be_meant_later(clinic: Clinic) -> None:
    """Nothing was done: the same request, sent once more, is decided as things are then."""
    values: Mapping[str, Any] = {"alert_id": (await flag(clinic)).alert_id, "seen": 0}
    await clinic.command(acknowledge, by=COACH, **values)
    assert isinstance(await clinic.command(acknowledge, by=PT, command_id=KEY, **values), Refusal)
    await clinic.command(undo_acknowledge, by=COACH, alert_id=values["alert_id"])
    await clinic.command(acknowledge, by=PT, command_id=KEY, **values)
    assert (await the_alert(clinic)).acknowledged_by == PT


async def test_the_same_key_for_another_alert_is_another_command(
    clinic: Clinic,
) -> None:
    first = await flag(clinic)
    await clinic.command(resolve, command_id=KEY, alert_id=first.alert_id, by=PT, outcome="referred", note="", seen=0)
    clinic.now += MINUTE
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee", at=clinic.now))
    (second,) = [alert for alert in await alerts(clinic) if alert.status == "open"]
    done = await clinic.command(
        resolve, command_id=KEY, alert_id=second.alert_id, by=PT, outcome="referred", note="", seen=0
    )
    assert (done.is_repeat, done.alert.status) == (False, "resolved")
