"""The oracle of alerts finds words of a red flag that alerted nobody, or twice, and an alert that nobody's words asked
for; in whatever order flags and words came."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.alert import Trigger, raised_event
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.people import CareTeam
from shared.events import AlertAcknowledged, AlertRaised, CloudEvent, SafetyFlagged
from shared.events.conversations import AlertAcknowledgedData
from shared.events.envelope import Record
from shared.events.plans import SafetyFlaggedData
from shared.outcomes import Outcomes, cause_of
from shared.red_flags import screen
from tests.chaos.clients import AlertDeed, MessageTold, Told
from tests.chaos.errands import MessageErrand
from tests.chaos.findings import Findings
from tests.chaos.messages_oracle import MessagesOracle
from tests.chaos.messaging_oracle import MessagingOracle
from tests.chaos.people import draw_cast
from tests.chaos.red_flags import follow_red_flags, triggers_of

CAST = draw_cast(1)
TEAM = CareTeam(pt=CAST.pt, coach=CAST.coach)
MEMBER = CAST.people[0].member_id
AT = datetime(2026, 3, 4, 15, tzinfo=UTC)
Change = Callable[[list[CloudEvent]], list[CloudEvent]]


def words() -> list[Trigger]:
    texts = ("The knee locked on the stairs.", "How many steps a day?", "I am short of breath.")
    said = [
        MessageTold(MessageErrand(1.0, number, MEMBER, None, False, text), UUID(int=number), number)
        for number, text in enumerate(texts, 1)
    ]
    return MessagesOracle(CAST, Told(messages=said), [], Findings()).red_flags()[MEMBER]


def flags(*findings: str) -> list[Trigger]:
    return triggers_of([_flag(number, finding) for number, finding in enumerate(findings)])


def _flag(number: int, finding: str) -> SafetyFlagged:
    screening = screen(findings=[finding])  # type: ignore[list-item]
    data = SafetyFlaggedData(
        flag_id=UUID(int=number), disposition=screening.disposition, findings=screening.findings,
        decision=screening.decision,
    )  # fmt: skip
    return SafetyFlagged(
        id=f"flag-{number}", source="urn:careloop:plans", time=AT, subject=MEMBER, correlationid="chain",
        causationid="session", causationsource="urn:chaos:app", data=data,
    )  # fmt: skip


def as_told(triggers: list[Trigger], *, minutes: list[float] | None = None) -> list[CloudEvent]:
    """As messaging decides it in this order, one a minute or at these minutes by its clock."""
    oracle, there = MessagingOracle(TEAM, {}, Findings()), list[CloudEvent]()
    for number, trigger in enumerate(triggers):
        at = AT + timedelta(minutes=number if minutes is None else minutes[number])
        change, outcomes = oracle._raised(trigger, list(oracle.alerts.values()), at), Outcomes()
        announce_alerts(outcomes=outcomes, changes=[change])
        oracle.alerts[change.alert.alert_id] = change.alert
        event_id = raised_event(alert_id=change.alert.alert_id, because=trigger.because).id
        there.append(_event(AlertRaised, outcomes.published[0].data, event_id, at, trigger))
    return there


def _event(kind: type[CloudEvent], data: Record, event_id: str, at: datetime, because: Trigger) -> CloudEvent:
    cause = cause_of(because.because)
    return kind.model_validate(
        {
            "id": event_id, "source": "urn:careloop:messaging", "time": at, "subject": MEMBER, "data": data,
            "correlationid": cause.chain, "causationsource": cause.source, "causationid": cause.id,
        }
    )  # fmt: skip


def judged(
    there: list[CloudEvent], flagged: list[Trigger], said: list[Trigger], done: Counter[AlertDeed] | None = None
) -> tuple[MessagingOracle, str]:
    oracle = MessagingOracle(TEAM, {event.id: event for event in there}, Findings())
    follow_red_flags(oracle, flagged, said, done or Counter())
    oracle.finish(AT + timedelta(minutes=5))
    oracle.hold_against(done or Counter(), Counter())
    return oracle, "\n".join(map(str, oracle.findings.found))


def test_each_message_of_a_red_flag_alerts_somebody_and_nothing_else_does() -> None:
    lock, breath = words()
    oracle, wrong = judged(as_told([lock, breath]), [], [lock, breath])
    assert wrong == ""
    (alert,) = oracle.alerts.values()
    assert (alert.priority, alert.repeats) == ("emergency", 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda there: there[1:],
        lambda there: there[:1],
        lambda there: [],
        lambda there: [*there, there[1].model_copy(update={"id": str(uuid4())})],
        lambda there: [there[0], there[1].model_copy(update={"causationid": "another"})],
        lambda there: [there[0], there[1].model_copy(update={"data": there[0].data})],
    ],
    ids=["first missed", "second missed", "both missed", "told twice", "of another cause", "of another urgency"],
)
def test_what_does_not_follow_is_found(change: Change) -> None:
    assert "alerts: " in judged(change(as_told(words())), [], words())[1]


def test_an_alert_of_words_that_nobody_wrote_is_found() -> None:
    assert "follows from nothing" in judged(as_told(words()), [], words()[:1])[1]
    assert "follows from nothing" in judged(as_told(words()), flags("dvt-risk"), [])[1]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_flags_and_words_join_each_other_in_the_order_in_which_they_came(place: int) -> None:
    said, (flag,) = words(), flags("dvt-risk")
    came = [*said[:place], flag, *said[place:]]
    assert judged(as_told(came), [flag], said)[1] == ""
    for number in range(3):
        there = as_told(came)
        del there[number]
        assert "alerts: " in judged(there, [flag], said)[1]


def test_a_clock_that_was_off_invents_no_finding() -> None:
    """By their times the later came first."""
    (lock, breath), (flag,) = words(), flags("dvt-risk")
    there = as_told([breath, lock, flag], minutes=[0, 3, 2])
    oracle, wrong = judged(there, [flag], [breath, lock])
    assert wrong == ""
    (alert,), (others,) = oracle.alerts.values(), oracle.or_else.values()
    assert {one.summary for one in (alert, *others)} == {lock.summary, flag.summary}


def test_what_somebody_had_seen_says_which_came_first() -> None:
    (lock, breath), (flag,) = words(), flags("dvt-risk")
    there = as_told([breath, lock, flag], minutes=[0, 3, 2])
    last = there[-1]
    assert isinstance(last, AlertRaised)
    taken = AlertAcknowledgedData(alert_id=last.data.alert_id, acknowledged_by=CAST.pt)
    seen = _event(AlertAcknowledged, taken, str(uuid4()), AT + timedelta(minutes=4), flag)
    seen = seen.model_copy(
        update={"causationsource": last.source, "causationid": last.id, "correlationid": last.correlationid}
    )
    done: Counter[AlertDeed] = Counter()
    done["acknowledged", last.data.alert_id, CAST.pt.practitioner_id, 2, ""] = 1
    oracle, wrong = judged([*there, seen], [flag], [breath, lock], done)
    assert (wrong, oracle.or_else) == ("", {})
    (alert,) = oracle.alerts.values()
    assert (alert.status, alert.summary) == ("acknowledged", flag.summary)
