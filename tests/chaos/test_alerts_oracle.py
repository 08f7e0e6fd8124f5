"""The oracle of alerts finds what people were told that they did and did not do, and what nobody did."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.alert import AlertChange, Trigger, raised_event
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import acknowledge_alert, hand_over_alert, undo_acknowledgement
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


def oracle(events: list[CloudEvent]) -> MessagingOracle:
    team = CareTeam(pt=CAST.pt, coach=CAST.coach)
    return MessagingOracle(team, {event.id: event for event in events}, Findings())


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


def judged(there: list[CloudEvent], done: Counter[AlertDeed]) -> str:
    judge = oracle(there)
    judge.follow_flags([FLAG])
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
