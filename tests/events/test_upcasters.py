"""An older major version becomes today's in one place; nothing after it knows that there was one."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from deploy.contracts.examples import EXAMPLES
from shared.events import PainReported
from shared.events.catalogue import EVENTS, TOPIC_OF
from shared.events.codec import Decoder, Undecodable, body_digest, encode
from shared.events.upcasters import STEPS_MAX, UPCASTERS

HEADERS = [("content-type", b"application/cloudevents+json")]
OLDER = "org.careloop.pain.reported.v0"
OLDEST = "org.careloop.pain.reported.v0beta"
PAIN = EXAMPLES["org.careloop.pain.reported.v1"]


def with_score(event: dict[str, Any]) -> dict[str, Any]:
    """v0 had a visual scale of 0-100 and called the score `vas`."""
    data = dict(event["data"])
    return {**event, "type": "org.careloop.pain.reported.v1", "data": {**data, "score": round(data.pop("vas") / 10)}}


def with_context(event: dict[str, Any]) -> dict[str, Any]:
    """The first one did not say when it hurt."""
    return {**event, "type": OLDER, "data": {**event["data"], "context": "now"}}


def pain(version: str, **data: Any) -> bytes:
    raw = orjson.loads(encode(PAIN))
    return orjson.dumps({**raw, "type": version, "data": data})


def decoder(**upcasters: Callable[[dict[str, Any]], dict[str, Any]]) -> Decoder:
    return Decoder(
        TOPIC_OF["careloop.activity"], upcasters={OLDER: with_score, OLDEST: with_context, **upcasters}
    )  # fmt: skip


def test_an_old_event_reads_as_one_of_today() -> None:
    read = decoder().decode(pain(OLDER, vas=80, context="now", findings=["giving-way"]), HEADERS)

    assert isinstance(read, PainReported)
    assert read.data == PAIN.data
    assert (read.ref, read.time, read.subject) == (PAIN.ref, PAIN.time, PAIN.subject)
    assert body_digest(read) == body_digest(PAIN)


def test_versions_are_brought_up_step_by_step() -> None:
    read = decoder().decode(pain(OLDEST, vas=80, findings=["giving-way"]), HEADERS)

    assert read.data == PAIN.data


def test_binary_mode_is_upcast_too() -> None:
    raw = orjson.loads(encode(PAIN))
    headers = [(f"ce_{name}", str(raw[name]).encode()) for name in ("specversion", "id", "source", "time", "subject")]
    read = decoder().decode(b'{"vas": 80, "context": "now"}', [*headers, ("ce_type", OLDER.encode())])

    assert read.data == PAIN.data.model_copy(update={"findings": ()})


def test_an_old_event_is_unknown_without_its_upcaster() -> None:
    with pytest.raises(Undecodable) as caught:
        Decoder(TOPIC_OF["careloop.activity"]).decode(pain(OLDER, vas=80), HEADERS)

    assert caught.value.reason == "unknown-type"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"context": "now"}, "an older version that cannot be brought up to date: KeyError"),
        ({"vas": "secret"}, "an older version that cannot be brought up to date: TypeError"),
        ({"vas": 800, "context": "now"}, "data.score: Input should be less than or equal to 10"),
    ],
)
def test_an_old_event_that_was_never_valid_is_undecodable_without_its_values(data: dict[str, Any], detail: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decoder().decode(pain(OLDER, **data), HEADERS)

    assert (caught.value.reason, caught.value.detail) == ("invalid", detail)
    assert caught.value.__context__ is None


def test_an_upcaster_may_not_change_who_or_which_it_is() -> None:
    careless = decoder(**{OLDER: lambda event: {**with_score(event), "id": "another"}})

    with pytest.raises(Undecodable, match="identity changed"):
        careless.decode(pain(OLDER, vas=80, context="now"), HEADERS)


def test_upcasters_that_go_in_a_circle_end() -> None:
    circle = decoder(**{OLDER: lambda event: {**event, "type": OLDEST}, OLDEST: lambda event: {**event, "type": OLDER}})

    assert STEPS_MAX < 100
    with pytest.raises(Undecodable, match="too many steps"):
        circle.decode(pain(OLDER, vas=80), HEADERS)


def test_every_upcaster_leads_to_an_event_of_today_and_starts_from_none() -> None:
    assert not set(UPCASTERS) & set(EVENTS), "a type of today would never be read as it is"
