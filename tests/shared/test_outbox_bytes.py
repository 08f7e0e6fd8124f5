"""What the outbox holds is, byte for byte, what the model of the event writes, although no event is made for it."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.commands import new_command
from shared.events import MemberResumed, PainSettled, PlanIssued
from shared.events.catalogue import EVENTS, TOPIC_OF_CLASS
from shared.events.codec import TooLarge, encode
from shared.events.envelope import EVENT_SIZE_MAX, NAMESPACE, CloudEvent, derive_id
from shared.events.members import MemberResumedData
from shared.outbox import finish_events
from shared.outcomes import Cause, Command, Draft, Timer, cause_of, name_event, step_of, trace_of
from shared.partitioning import key_of
from tests.events.strategies import TIMES, events, records
from tests.shared.test_outbox import MEMBER, NOW

SCOPE = "plans.activity"


def data_of(cls: type[CloudEvent]) -> Any:
    return cls.model_fields["data"].annotation


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Any event, because of any event, or of a command or timer that any event led to."""
    cls, because, member = draw(st.sampled_from(list(EVENTS.values()))), draw(events()), draw(st.uuids())
    cause = cause_of(because)
    reasons: list[CloudEvent | Command | Timer] = [
        because,
        Command(name="resume", id=draw(st.text(max_size=9)), member_id=member, cause=cause),
        Timer(kind="lapse", key="k", member_id=member, due_at=draw(TIMES), cause=cause),
    ]
    reason = draw(st.sampled_from(reasons))
    named = name_event(cls, service="plans", about=member, because=reason) if draw(st.booleans()) else None
    return Draft(cls, draw(records(data_of(cls))), reason, member, named)


def as_model(draft: Draft, *, ordinal: int, now: datetime) -> CloudEvent:
    """The event as the contract's own model makes it, from values that it reads itself."""
    cause = cause_of(draft.because)
    step = step_of(draft.because) or SCOPE
    event_id = str(uuid5(NAMESPACE, f"plans {step} {cause.source} {cause.id} {ordinal}"))
    if draft.named is not None:
        event_id = draft.named.id
    return draft.event(
        id=event_id, source="urn:careloop:plans", type=draft.event.model_fields["type"].default, time=now,
        subject=draft.member_id, correlationid=cause.chain, causationid=cause.id, causationsource=cause.source,
        traceparent=trace_of(cause, event_id), data=draft.data,
    )  # fmt: skip


@given(drafts(), TIMES)
def test_the_bytes_are_those_of_the_model(draft: Draft, now: datetime) -> None:
    rows = finish_events([draft, draft], service="plans", scope=SCOPE, now=now)
    for ordinal, row in enumerate(rows):
        assert row.value == encode(as_model(draft, ordinal=ordinal, now=now))
        assert b"\n" not in row.value  # the statement takes a value a line
        assert row.topic == TOPIC_OF_CLASS[draft.event].name
        assert (row.member_id, row.key_hash) == (draft.member_id, key_of(draft.member_id).hash)


@given(st.text(max_size=60))
def test_a_derived_id_is_the_uuid_that_the_library_derives(name: str) -> None:
    assert derive_id(name) == str(uuid5(NAMESPACE, name))


@pytest.mark.parametrize(
    "cause",
    [
        Cause("urn:test:app", "with a space", "c1"),
        Cause("urn:test:app", "", "c1"),
        Cause("urn:test:app", 'line\n"', "c1"),
        Cause("urn:test:app", "x" * 129, "c1"),
        Cause("urn:täst", "e1", "c1"),
        Cause("urn:test:app", "e1", "ü"),
        Cause("urn:test:app", "e1", "c1", "00-zz-aa-01"),
    ],
)
def test_a_command_whose_cause_no_reader_would_accept_publishes_nothing(cause: Cause) -> None:
    command = Command(name="resume", id="key-1", member_id=MEMBER, cause=cause)
    draft = Draft(MemberResumed, MemberResumedData(reason="well"), command, MEMBER, None)
    with pytest.raises(ValidationError):
        finish_events([draft], service="plans", scope=SCOPE, now=NOW)


def test_data_of_another_event_is_refused() -> None:
    because = new_command("resume", service="plans", member_ids=[MEMBER])
    with pytest.raises(TypeError, match=r"pain\.settled takes no MemberResumedData"):
        finish_events(
            [Draft(PainSettled, MemberResumedData(reason="well"), because, MEMBER)],
            service="plans",
            scope=SCOPE,
            now=NOW,
        )


def test_an_event_that_no_reader_would_accept_for_its_size_is_refused() -> None:
    because = new_command("issue", service="plans", member_ids=[MEMBER])
    data = data_of(PlanIssued).model_construct(pathway="x" * EVENT_SIZE_MAX)
    with pytest.raises(TooLarge):
        finish_events([Draft(PlanIssued, data, because, MEMBER)], service="plans", scope=SCOPE, now=NOW)


def test_a_time_without_a_zone_is_refused() -> None:
    because = new_command("resume", service="plans", member_ids=[MEMBER])
    draft = Draft(MemberResumed, MemberResumedData(reason="well"), because, UUID(int=1))
    with pytest.raises(ValidationError):
        finish_events([draft], service="plans", scope=SCOPE, now=NOW.replace(tzinfo=None))
