"""An event that is decided again is the same event, and it stays in the trace and the chain of its cause."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest

from shared.commands import new_command
from shared.events import CloudEvent, MemberResumed, PainReported
from shared.events.activity import PainReportedData
from shared.events.envelope import NAMESPACE
from shared.events.members import MemberResumedData
from shared.outcomes import Cause, Command, Outcomes, Timer, name_event
from shared.trace_context import is_traceparent, trace_id_of
from tests.fixtures.published import published_events

MEMBER = UUID("5b0f5b62-5f0c-4b43-8d5c-1f2f3a4b5c6d")
NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def event(**changes: Any) -> PainReported:
    fields: dict[str, Any] = {
        "id": "e1", "source": "urn:test:app", "time": NOW, "subject": MEMBER, "traceparent": TRACEPARENT,
        "data": PainReportedData(score=3, context="average-24h"), **changes,
    }  # fmt: skip
    return PainReported(**fields)


def command(**changes: Any) -> Command:
    made = new_command("resume", service="plans", member_ids=[MEMBER], command_id="key-1")
    return replace(made, cause=made.cause._replace(traceparent=TRACEPARENT), **changes)


def timer(**changes: Any) -> Timer:
    cause = Cause(source="urn:test:app", id="e1", chain="c1", traceparent=TRACEPARENT)
    return replace(Timer(kind="lapse", key="k", member_id=MEMBER, due_at=NOW, cause=cause), **changes)


def decide(
    *causes: CloudEvent | Command | Timer, service: str = "plans", scope: str = "plans.activity", later: int = 0
) -> list[CloudEvent]:
    """Two events for each cause, as one decision publishes them."""
    outcomes = Outcomes()
    for because in causes:
        for word in ("better", "well"):
            outcomes.publish(MemberResumed, MemberResumedData(reason=word), because=because)
    return published_events(outcomes, service=service, scope=scope, now=NOW + timedelta(hours=later))


def ids(events: list[CloudEvent]) -> list[str]:
    return [one.id for one in events]


@pytest.mark.parametrize("because", [event(), command(), timer()], ids=["event", "command", "timer"])
def test_the_same_decision_made_again_has_the_same_identities(because: CloudEvent | Command | Timer) -> None:
    first, again = decide(because), decide(because, later=5)
    assert ids(first) == ids(again)
    assert len(set(ids(first))) == 2
    assert {one.source for one in first} == {"urn:careloop:plans"}


def test_an_identity_is_of_the_service_the_step_the_cause_and_the_place_in_the_decision() -> None:
    # Spelled out: a release that derived it otherwise would publish everything again after a restore.
    names = [uuid5(NAMESPACE, f"plans plans.activity urn:test:app e1 {ordinal}") for ordinal in (0, 1)]
    assert ids(decide(event())) == [str(name) for name in names]
    others = [
        decide(event(), service="messaging"),
        decide(event(), scope="plans.safety"),
        decide(event(id="e2")),
        decide(event(source="urn:test:device")),
        decide(command()),
        decide(command(name="pause")),
        decide(command(id="key-2")),  # of one alert, perhaps, whose chain both go on with
        decide(timer()),
        decide(timer(due_at=NOW + timedelta(days=1))),
    ]
    every = [identity for one in [decide(event()), *others] for identity in ids(one)]
    assert len(set(every)) == len(every)


def test_the_events_of_one_cause_do_not_move_when_another_is_decided_with_it() -> None:
    alone = ids(decide(event()))
    assert ids(decide(event(id="e0"), event()))[2:] == alone


def test_an_event_that_was_named_before_keeps_its_name() -> None:
    named = name_event(MemberResumed, service="plans", about=MEMBER, because=event())
    outcomes = Outcomes()
    outcomes.publish(MemberResumed, MemberResumedData(reason="well"), because=event(), named=named)
    (made,) = published_events(outcomes, service="plans", scope="plans.activity", now=NOW)
    assert (made.id, made.source, made.traceparent) == (named.id, named.source, named.traceparent)


@pytest.mark.parametrize("because", [event(), command(), timer()], ids=["event", "command", "timer"])
def test_an_event_is_in_the_trace_of_its_cause_with_a_span_of_its_own(because: CloudEvent | Command | Timer) -> None:
    made = decide(because)
    for one in made:
        assert one.traceparent == f"00-{TRACE}-{UUID(one.id).hex[-16:]}-01"
    assert len({one.traceparent for one in made}) == 2


def test_without_a_trace_the_whole_chain_shares_one_that_is_made_of_it() -> None:
    first = decide(event(traceparent=None))
    # The next service decides because of what the first published.
    second = decide(first[0], service="messaging", scope="messaging.plans")
    traces = {trace_id_of(one.traceparent or "") for one in [*first, *second]}
    assert len(traces) == 1
    assert all(is_traceparent(one.traceparent or "") for one in [*first, *second])
    (other,) = {trace_id_of(one.traceparent or "") for one in decide(event(id="e2", traceparent=None))}
    assert other not in traces


def test_an_event_names_its_cause_and_its_chain() -> None:
    for one in decide(event()):
        assert (one.causationsource, one.causationid, one.correlationid) == ("urn:test:app", "e1", event().chain)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT.upper(), False),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"{TRACEPARENT}-more", False),
        ("", False),
    ],
)
def test_a_traceparent_that_the_specification_calls_invalid_is_none(text: str, valid: bool) -> None:
    assert is_traceparent(text) is valid
