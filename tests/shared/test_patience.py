"""What may wait for company, of what each service reads: never what somebody is alarmed by."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.contracts.examples import EXAMPLES
from services.plans.domain.pain_spike import detect_pain_spike, least_spike
from services.plans.store.rules import load_library
from shared.events import (
    AlertEscalated,
    AlertRaised,
    CloudEvent,
    MemberLapsed,
    MemberScreened,
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
from shared.events.codec import Decoder, encode
from shared.events.vocabulary import Finding
from shared.subscriptions import Subscription, everything, nothing
from tests.statements.chunks import subscriptions_of

DECODER: Any = Decoder(TOPIC_OF["careloop.activity"])
SUBSCRIPTIONS = {one.group: one for service in SERVICES for one in subscriptions_of(service)}
HURRIED_PLANS = (PainSpiked, PainSettled, MemberLapsed)
PATIENT_PLANS = (PlanIssued, PlanRevised, MilestoneReached, UsualPainChanged)


def may_wait(subscription: Subscription, event: CloudEvent) -> bool:
    return subscription.patient(encode(event))


def examples(*events: type[CloudEvent]) -> Iterator[CloudEvent]:
    found = [example for example in EXAMPLES.values() if isinstance(example, events)]
    assert {type(example) for example in found} == set(events)
    yield from found


def test_only_these_groups_let_anything_wait() -> None:
    patient = {group for group, one in SUBSCRIPTIONS.items() if one.patient is not nothing}
    assert patient == {
        "plans.activity",
        "plans.safety",
        "messaging.members.safety",
        "messaging.activity",
        "messaging.plans",
        "messaging.safety",
        "messaging.conversations",
        "notifications.safety",
    }


def test_an_alert_never_waits_and_a_plan_may() -> None:
    plans = SUBSCRIPTIONS["messaging.plans"]
    assert not any(may_wait(plans, event) for event in examples(*HURRIED_PLANS))
    assert all(may_wait(plans, event) for event in examples(*PATIENT_PLANS))


@pytest.mark.parametrize(
    ("group", "flag"), [("messaging.safety", SafetyFlagged), ("messaging.members.safety", MemberScreened)]
)
def test_a_red_flag_never_waits_and_all_else_may(group: str, flag: type[CloudEvent]) -> None:
    safety = SUBSCRIPTIONS[group]
    others = [event for event in TOPIC_OF[safety.topic].events if event is not flag]
    assert not any(may_wait(safety, event) for event in examples(flag))
    assert all(may_wait(safety, event) for event in examples(*others))


def test_a_page_never_waits_and_all_else_may() -> None:
    pages = SUBSCRIPTIONS["notifications.safety"]
    others = [
        event for event in TOPIC_OF["careloop.conversations"].events if event not in (AlertRaised, AlertEscalated)
    ]
    assert not any(may_wait(pages, event) for event in examples(AlertRaised, AlertEscalated))
    assert all(may_wait(pages, event) for event in examples(*others))


@pytest.mark.parametrize("event", [*examples(PainReported, SessionCompleted)], ids=lambda event: event.id)
def test_what_an_app_reports_waits_only_without_a_finding(event: PainReported | SessionCompleted) -> None:
    safety = SUBSCRIPTIONS["plans.safety"]
    for findings in ((), ("chest-pain-breathless",), ("recent-trauma", "age-55-plus")):
        told = event.model_copy(update={"data": event.data.model_copy(update={"findings": findings})})
        assert may_wait(safety, told) == (findings == ())


@pytest.mark.parametrize("left_out", [True, False])
def test_no_findings_are_no_findings_however_an_app_says_so(left_out: bool) -> None:
    (example, *_) = examples(SessionCompleted)
    value = encode(example.model_copy(update={"data": example.data.model_copy(update={"findings": ()})}))
    assert b'"findings":[]' in value
    told = value.replace(b'"findings":[]', b'"extra":1' if left_out else b'"findings": [ ]')
    assert SUBSCRIPTIONS["plans.safety"].patient(told) == left_out, "not recognised: it hurries"
    spelt = value.replace(b'"findings":[]', b'"f\\u0069ndings":["chest-pain-breathless"]')
    assert DECODER.decode(spelt, ()).data.findings, "the same name to whoever reads JSON"
    assert not SUBSCRIPTIONS["plans.safety"].patient(spelt)


@given(
    event=st.sampled_from([*examples(PainReported, SessionCompleted)]),
    score=st.integers(0, 10),
    baseline=st.floats(0, 10),
    previous=st.none() | st.tuples(st.integers(0, 10_000), st.floats(-10, 10)),
    findings=st.sampled_from([(), ("chest-pain-breathless",)]),
)
def test_a_reading_that_may_wait_is_no_spike(
    event: PainReported | SessionCompleted,
    score: int,
    baseline: float,
    previous: tuple[int, float] | None,
    findings: tuple[Finding, ...],
) -> None:
    field = "score" if isinstance(event, PainReported) else "pain_during"
    told = event.model_copy(update={"data": event.data.model_copy(update={field: score, "findings": findings})})
    rules = load_library().pain
    spike = detect_pain_spike(score=score, at_s=10_000, baseline=baseline, previous=previous, rules=rules)
    if may_wait(SUBSCRIPTIONS["plans.activity"], told):
        assert spike is None
        assert findings == ()
    else:
        assert findings or score >= least_spike(rules=rules), "whoever is calm may wait"


def test_only_what_nobody_waits_for_waits_whatever_it_is() -> None:
    whatever = {group for group, one in SUBSCRIPTIONS.items() if one.patient is everything}
    assert whatever == {"messaging.activity", "messaging.conversations"}
