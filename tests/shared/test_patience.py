"""What may wait for company, of what each service reads: never what somebody is alarmed by."""

from collections.abc import Iterator

import pytest

from deploy.contracts.examples import EXAMPLES
from shared.events import (
    CloudEvent,
    MemberLapsed,
    MilestoneReached,
    PainReported,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
)
from shared.events.catalogue import SERVICES, TOPIC_OF
from shared.events.codec import encode
from shared.subscriptions import EVERYTHING, Subscription
from tests.statements.chunks import subscriptions_of

SUBSCRIPTIONS = {one.group: one for service in SERVICES for one in subscriptions_of(service)}
HURRIED_PLANS = (PainSpiked, PainSettled, MemberLapsed)
PATIENT_PLANS = (PlanIssued, PlanRevised, MilestoneReached, UsualPainChanged)


def may_wait(subscription: Subscription, event: CloudEvent) -> bool:
    return any(marker in encode(event) for marker in subscription.patient)


def examples(*events: type[CloudEvent]) -> Iterator[CloudEvent]:
    found = [example for example in EXAMPLES.values() if isinstance(example, events)]
    assert {type(example) for example in found} == set(events)
    yield from found


def test_only_these_groups_let_anything_wait() -> None:
    patient = {group for group, one in SUBSCRIPTIONS.items() if one.patient}
    assert patient == {"plans.safety", "messaging.activity", "messaging.plans", "messaging.safety"}


def test_an_alert_never_waits_and_a_plan_may() -> None:
    plans = SUBSCRIPTIONS["messaging.plans"]
    assert not any(may_wait(plans, event) for event in examples(*HURRIED_PLANS))
    assert all(may_wait(plans, event) for event in examples(*PATIENT_PLANS))


def test_a_red_flag_never_waits_and_all_else_may() -> None:
    safety = SUBSCRIPTIONS["messaging.safety"]
    others = [event for event in TOPIC_OF["careloop.plans"].events if event is not SafetyFlagged]
    assert not any(may_wait(safety, event) for event in examples(SafetyFlagged))
    assert all(may_wait(safety, event) for event in examples(*others))


@pytest.mark.parametrize("event", [*examples(PainReported, SessionCompleted)], ids=lambda event: event.id)
def test_what_an_app_reports_waits_only_without_a_finding(event: PainReported | SessionCompleted) -> None:
    safety = SUBSCRIPTIONS["plans.safety"]
    for findings in ((), ("chest-pain-breathless",), ("recent-trauma", "age-55-plus")):
        told = event.model_copy(update={"data": event.data.model_copy(update={"findings": findings})})
        assert may_wait(safety, told) == (findings == ())


def test_only_the_timeline_lets_everything_wait() -> None:
    assert [group for group, one in SUBSCRIPTIONS.items() if one.patient == EVERYTHING] == ["messaging.activity"]
