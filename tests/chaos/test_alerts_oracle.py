"""The oracle of alerts finds what people were told that they did and did not do, and what nobody did."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.alert import Alert, AlertChange, Trigger, raised_event
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    hand_over_alert,
    undo_acknowledgement,
    wake_alert,
)
from services.messaging.domain.people import CareTeam
from services.messaging.domain.triggers import on_safety_flagged
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.events import AlertAcknowledged, AlertRaised, AlertResolved, CloudEvent, SafetyFlagged
from shared.events.conversations import AlertAcknowledgedData, AlertResolvedData
from shared.events.envelope import Record
from shared.events.plans import SafetyFlaggedData
from shared.outcomes import Command, Outcomes
from shared.red_flags import screen
from tests.chaos.clients import NOBODY, AlertDeed
from tests.chaos.findings import Findings
from tests.chaos.messaging_oracle import MessagingOracle
from tests.chaos.people import draw_cast
from tests.chaos.put_offs import PutOff, end_of
from tests.chaos.red_flags import follow_red_flags, triggers_of

CAST = draw_cast(1)
MEMBER = CAST.people[0].member_id
AT = datetime(2026, 3, 4, 15, tzinfo=UTC)
SCREENING = screen(findings=("recent-trauma", "age-55-plus"))
FLAG = SafetyFlagged(
    id="flag", source="urn:careloop:plans", time=AT, subject=MEMBER, correlationid="chain", causationid="session",
    causationsource="urn:chaos:app",
    data=SafetyFlaggedData(
        flag_id=UUID(int=1), disposition=SCREENING.disposition, findings=SCREENING.findings,
        decision=SCREENING.decision,
    ),
)  # fmt: skip
Change = Callable[[list[CloudEvent]], list[CloudEvent]]


def oracle(events: list[CloudEvent], *put_offs: PutOff) -> MessagingOracle:
    team, alert_id = CareTeam(pt=CAST.pt, coach=CAST.coach), raised().alert.alert_id if put_offs else UUID(int=0)
    return MessagingOracle(
        team, {event.id: event for event in events}, Findings(), put_offs={alert_id: list(put_offs)} if put_offs else {}
    )


def raised() -> AlertChange:
    return oracle([])._raised(flag_trigger(), [], AT)


def after(cause: CloudEvent, kind: type[CloudEvent], data: Record, *, minutes: float) -> CloudEvent:
    return kind.model_validate(
        {
            "id": str(uuid4()), "source": "urn:careloop:messaging", "time": AT + timedelta(minutes=minutes),
            "subject": MEMBER, "correlationid": "chain", "causationsource": cause.source, "causationid": cause.id,
            "data": data,
        }
    )  # fmt: skip


def flag_trigger() -> Trigger:
    trigger = on_safety_flagged(event=FLAG, rules=load_trigger_rules())
    assert trigger is not None
    return trigger


def events() -> tuple[list[CloudEvent], Counter[AlertDeed]]:
    """An alert that the therapist took on and closed, and what they were told."""
    change, outcomes = oracle([])._raised(flag_trigger(), [], AT), Outcomes()
    announce_alerts(outcomes=outcomes, changes=[change])
    alert_id, who = change.alert.alert_id, CAST.pt
    raised = after(FLAG, AlertRaised, outcomes.published[0].data, minutes=0)
    raised = raised.model_copy(update={"id": raised_event(alert_id=alert_id, because=FLAG).id})
    taken = AlertAcknowledgedData(alert_id=alert_id, acknowledged_by=who)
    closed = AlertResolvedData(alert_id=alert_id, resolved_by=who, outcome="reached-member")
    done: Counter[AlertDeed] = Counter()
    done["acknowledged", alert_id, who.practitioner_id, 0, ""] = 1
    done["resolved", alert_id, who.practitioner_id, 0, "reached-member"] = 1
    return [
        raised,
        after(raised, AlertAcknowledged, taken, minutes=1),
        after(raised, AlertResolved, closed, minutes=2),
    ], done


def passed_on() -> tuple[list[CloudEvent], Counter[AlertDeed]]:
    """An alert that the therapist took on, gave back, and handed over to the coach."""
    (raised, taken, _), done = events()
    change = oracle([])._raised(flag_trigger(), [], AT)
    rules, acting = load_alert_rules(), Command(name="", id="", member_id=MEMBER, cause=change.alert.cause)
    taken_at, undone_at, given_at = (AT + timedelta(minutes=minutes) for minutes in (1, 1.1, 2))
    on = acknowledge_alert(alert=change.alert, by=CAST.pt, seen=0, because=acting, now=taken_at)
    assert isinstance(on, AlertChange)
    back = undo_acknowledgement(alert=on.alert, by=CAST.pt, because=acting, rules=rules, now=undone_at)
    assert isinstance(back, AlertChange)
    team = CareTeam(pt=CAST.pt, coach=CAST.coach)
    given = hand_over_alert(
        alert=back.alert, by=CAST.pt, to_role="coach", team=team, seen=0, because=acting, rules=rules, now=given_at
    )
    assert isinstance(given, AlertChange)
    outcomes = Outcomes()
    announce_alerts(outcomes=outcomes, changes=[back, given])
    undone = after(raised, AlertRaised, outcomes.published[0].data, minutes=1.1)
    handed_over = after(undone, AlertRaised, outcomes.published[1].data, minutes=2)
    del done["resolved", change.alert.alert_id, CAST.pt.practitioner_id, 0, "reached-member"]
    done["undone", change.alert.alert_id, CAST.pt.practitioner_id, 0, ""] = 1
    done["handed over", change.alert.alert_id, NOBODY, 0, "coach"] = 1
    return [raised, taken, undone, handed_over], done


def put_off() -> tuple[list[CloudEvent], Counter[AlertDeed], PutOff]:
    """An alert that the therapist took on, put off, and that came back."""
    (asks, taken, _), done = events()
    alert_id, until = raised().alert.alert_id, AT + timedelta(minutes=3)
    one = PutOff(by=CAST.pt, until=until, at=AT + timedelta(minutes=2), behind=2)
    acting = Command(name="", id="", member_id=MEMBER, cause=raised().alert.cause)
    on = acknowledge_alert(alert=raised().alert, by=CAST.pt, seen=0, because=acting, now=AT + timedelta(minutes=1))
    assert isinstance(on, AlertChange)
    asleep = one.put(on.alert)
    assert isinstance(asleep, Alert)
    team, timer = CareTeam(pt=CAST.pt, coach=CAST.coach), end_of(asleep)
    woken = wake_alert(alert=asleep, team=team, because=timer, rules=load_alert_rules(), now=until)
    assert woken is not None
    outcomes = Outcomes()
    announce_alerts(outcomes=outcomes, changes=[woken])
    back = after(asks, AlertRaised, outcomes.published[0].data, minutes=3)
    back = back.model_copy(update={"id": raised_event(alert_id=alert_id, because=timer).id})
    del done["resolved", alert_id, CAST.pt.practitioner_id, 0, "reached-member"]
    done["put off", alert_id, CAST.pt.practitioner_id, 0, until.isoformat()] = 1
    return [asks, taken, back], done, one


def judged(there: list[CloudEvent], done: Counter[AlertDeed], *put_offs: PutOff) -> str:
    judge = oracle(there, *put_offs)
    follow_red_flags(judge, triggers_of([FLAG]), [], done)
    judge.finish(AT + timedelta(minutes=5))
    judge.hold_against(done, Counter())
    return "\n".join(map(str, judge.findings.found))


def test_what_follows_is_found_right() -> None:
    for there, done in (events(), passed_on()):
        assert judged(there, done) == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda there: [there[0], there[2]],
        lambda there: there[:2],
        lambda there: [*there, there[1].model_copy(update={"id": str(uuid4())})],
        lambda there: [*there, there[2].model_copy(update={"id": str(uuid4())})],
        lambda there: [there[0], there[2], there[1]],
        lambda there: [*there[:2], there[2].model_copy(update={"causationid": "another"})],
        lambda there: there[1:],
    ],
    ids=[
        "not taken on",
        "not closed",
        "taken on twice",
        "closed twice",
        "out of order",
        "of another cause",
        "not raised",
    ],
)
def test_what_does_not_follow_is_found(change: Change) -> None:
    there, done = events()
    assert "alerts: " in judged(change(there), done)


def test_what_nobody_was_told_of_is_found() -> None:
    there, _ = events()
    assert "acknowledged: told 0 times, done 1 times" in judged(there, Counter())


def test_what_was_put_off_comes_back() -> None:
    there, done, one = put_off()
    assert judged(there, done, one) == ""
    assert "put off: told 1 times, done 0 times" in judged(there, done)
    assert "alert.snooze: an alert did not ask again" in judged(there[:2], done, one)
    assert "was not there to be" in judged(there, done, one, replace(one, behind=7))
    assert "put off: told 0 times, done 1 times" in judged(there, Counter(), one)
    early = there[2].model_copy(update={"time": AT + timedelta(minutes=2.5)})
    assert "woke at" in judged([*there[:2], early], done, one)
    assert "should have been refused: not-ahead" in judged(there, done, replace(one, at=one.until))


@pytest.mark.parametrize(
    "change",
    [
        lambda there: there[:3],
        lambda there: [*there[:2], there[3]],
        lambda there: [*there, there[3].model_copy(update={"id": str(uuid4())})],
        lambda there: [there[0], there[2], there[1], there[3]],
    ],
    ids=["not handed over", "not given back", "handed over twice", "given back before it was taken on"],
)
def test_what_was_passed_on_otherwise_is_found(change: Change) -> None:
    there, done = passed_on()
    assert "alerts: " in judged(change(there), done)
