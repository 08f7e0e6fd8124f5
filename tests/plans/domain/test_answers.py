"""What can be read of an answer in what is no valid event: everything that is one, and nothing else."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reconciliation.log import _read
from services.plans.domain.answers import FINDINGS, Answers, read_answers
from shared.arrivals import Arrival, read_arrivals
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import HEADERS, Decoder
from shared.red_flags import screen

DECODER = Decoder(TOPIC_OF["careloop.activity"])
MEMBER = UUID(int=7)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def arrive(value: bytes, headers: Any = HEADERS) -> Arrival:
    record = SimpleNamespace(
        partition=0, offset=3, key=str(MEMBER).encode(), value=value, headers=headers, timestamp=1_700_000_000_000
    )
    (arrival,) = read_arrivals(
        [record], decoder=DECODER, group="plans.safety", topic="careloop.activity", now=NOW, wall=NOW,
        loosely=read_answers,
    )  # fmt: skip
    return arrival


@given(members=st.dictionaries(st.sampled_from(["id", "source", "type", "time", "x"]), JSON), many=st.data())
def test_each_red_flag_among_whatever_else_there_is(members: dict[str, Any], many: st.DataObject) -> None:
    findings = many.draw(st.lists(st.sampled_from(sorted(FINDINGS)), max_size=5))
    among = many.draw(st.permutations([*findings, *many.draw(st.lists(JSON, max_size=3))]))
    arrival = arrive(orjson.dumps({**members, "data": {"findings": among, "pain_during": "much"}}))
    screening = screen(findings=FINDINGS.intersection(one for one in among if isinstance(one, str)))
    if screening.disposition == "none":
        assert arrival.event is None
        assert arrival.fault is not None
        assert not arrival.fault.is_harmless
        return
    assert isinstance(arrival.event, Answers)
    assert (arrival.event.subject, arrival.event.data.findings) == (MEMBER, screening.findings)
    assert arrival.fault is not None
    assert arrival.fault.is_harmless


@given(
    value=st.binary(max_size=60) | JSON.map(orjson.dumps), headers=st.sampled_from([HEADERS, (), (("ce_id", b"1"),)])
)
def test_nothing_that_lies_in_the_log_raises(value: bytes, headers: Any) -> None:
    assert arrive(value, headers).event is None


@pytest.mark.parametrize(
    "names", [{"id": "e-1", "source": "urn:app"}, {"id": "e-1"}, {"id": "two words", "source": "urn:app"}]
)
def test_what_is_judged_loosely_is_found_in_the_books_by_its_record(names: dict[str, str]) -> None:
    arrival = arrive(orjson.dumps({**names, "data": {"findings": ["hot-swollen-joint"]}}))
    assert isinstance(arrival.event, Answers)
    assert arrival.identity in _read(arrival.record, DECODER).inbox_keys("plans.safety", "careloop.activity", 0)
