"""The digests that an inbox keeps: who an event is, and what it says."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from shared.events.activity import PainReportedData
from shared.events.codec import body_digest, encode
from shared.inbox import inbox_identity
from tests.events.test_codec import ACTIVITY, PAIN, STRUCTURED, changed


def test_the_body_is_type_subject_and_data_only() -> None:
    other_route = PAIN.model_copy(
        update={
            "id": "other",
            "source": "urn:other",
            "time": datetime(2026, 1, 1, tzinfo=UTC),
            "traceparent": None,
            "correlationid": "other",
            "causationid": "other",
            "causationsource": "urn:other",
            "dataschema": None,
        }
    )
    assert body_digest(other_route) == body_digest(PAIN)
    assert len(body_digest(PAIN)) == 16

    other_member = PAIN.model_copy(update={"subject": UUID(int=1)})
    other_score = PAIN.model_copy(update={"data": PAIN.data.model_copy(update={"score": 7})})
    assert len({body_digest(event) for event in (PAIN, other_member, other_score)}) == 3


def test_member_order_and_spaces_do_not_change_the_body() -> None:
    raw = orjson.loads(encode(PAIN))
    raw["data"] = dict(reversed(raw["data"].items()))
    read = ACTIVITY.decode(orjson.dumps(dict(reversed(raw.items())), option=orjson.OPT_INDENT_2), STRUCTURED)

    assert body_digest(read) == body_digest(PAIN)


def test_a_default_that_is_said_does_not_change_the_body() -> None:
    left_out = ACTIVITY.decode(changed(PAIN, data__region=..., data__findings=...), STRUCTURED)
    said = ACTIVITY.decode(changed(PAIN, data__region="knee", data__findings=[]), STRUCTURED)

    assert body_digest(left_out) == body_digest(said)


def test_a_member_that_a_release_adds_does_not_change_the_body_of_what_was_written_before_it() -> None:
    """While both releases run, and in every inbox that is kept: what was taken comes again, and is no other event."""

    class NextData(PainReportedData):
        told_by: str = "the member"

    after = PAIN.model_copy(update={"data": NextData(**PAIN.data.model_dump())})
    other = PAIN.model_copy(update={"data": NextData(**PAIN.data.model_dump(), told_by="somebody else")})
    assert body_digest(after) == body_digest(PAIN) != body_digest(other)


@given(source=st.text("ab:/", min_size=1), id=st.text("ab:/", min_size=1), other=st.text("ab:/", min_size=1))
def test_identity_is_the_pair(source: str, id: str, other: str) -> None:
    assert len(inbox_identity("plans.activity", source, id)) == 16
    assert inbox_identity("plans.activity", source, id) == inbox_identity("plans.activity", source, id)
    assert (
        inbox_identity("plans.activity", source, id) == inbox_identity("plans.activity", source + other, id)
    ) is False
    assert (
        inbox_identity("plans.activity", source, other + id) == inbox_identity("plans.activity", source + other, id)
    ) is False
