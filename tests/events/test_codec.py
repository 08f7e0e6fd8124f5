"""What is read and written on Kafka: both modes, and every way in which a record can be wrong."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.contracts.examples import EXAMPLES
from shared.events import MessageSent, PainReported, SessionCompleted
from shared.events.catalogue import EVENTS, TOPIC_OF, TOPIC_OF_TYPE, TOPICS
from shared.events.codec import HEADERS, Decoder, TooLarge, Undecodable, body_digest, encode
from shared.events.envelope import EVENT_SIZE_MAX, CloudEvent, event_type, schema_uri
from tests.events.strategies import events

ACTIVITY = Decoder(TOPIC_OF["careloop.activity"])
DECODERS = {topic.name: Decoder(topic) for topic in TOPICS}
STRUCTURED = [("content-type", b"application/cloudevents+json")]
SESSION = EXAMPLES["org.careloop.session.completed.v1"]
PAIN = EXAMPLES["org.careloop.pain.reported.v1"]
SECRET = "p4ssw0rd-of-a-member"


def with_schema(event: CloudEvent) -> CloudEvent:
    return event.model_copy(update={"dataschema": schema_uri(type(event))})


def decoder_of(event: CloudEvent) -> Decoder:
    return DECODERS[TOPIC_OF_TYPE[event.type].name]


def changed(event: CloudEvent, **members: Any) -> bytes:
    """The event's JSON with members set; a path in data is written data__pain_during. Ellipsis removes."""
    raw = orjson.loads(encode(event))
    for path, value in members.items():
        *parents, name = path.split("__")
        target = raw
        for parent in parents:
            target = target[int(parent) if parent.isdigit() else parent]
        if value is ...:
            del target[name]
        else:
            target[name] = value
    return orjson.dumps(raw)


def refused(value: bytes | None, headers: Any = STRUCTURED, *, decoder: Decoder = ACTIVITY) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decoder.decode(value, headers)
    return caught.value


def as_binary(
    event: CloudEvent, *, without: str = "", **more: bytes | None
) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    raw = orjson.loads(encode(event))
    data = orjson.dumps(raw.pop("data"))
    raw.pop("datacontenttype")
    headers: dict[str, bytes | None] = {f"ce_{name}": str(value).encode() for name, value in raw.items()}
    headers |= {"content-type": b"application/json", **more}
    return data, [(name, value) for name, value in headers.items() if name != without]


@given(event=events())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_reads_the_same(event: CloudEvent) -> None:
    raw = encode(event)
    read = decoder_of(event).decode(raw, list(HEADERS))

    assert read == with_schema(event)
    assert encode(read) == raw
    assert body_digest(read) == body_digest(event)


@given(event=events())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_binary_mode_reads_the_same(event: CloudEvent) -> None:
    value, headers = as_binary(event)
    read = decoder_of(event).decode(value, headers)

    assert read == with_schema(event)
    assert body_digest(read) == body_digest(event)


@settings(deadline=None)
@given(value=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_no_bytes_raise_anything_but_undecodable(value: bytes) -> None:
    for headers in ([], STRUCTURED, [("content-type", b"application/json"), ("ce_specversion", b"1.0")]):
        with pytest.raises(Undecodable):
            ACTIVITY.decode(value, headers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), event=events(SessionCompleted, PainReported), value=JSON)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_event_with_one_member_replaced_is_read_or_undecodable(
    data: st.DataObject, event: CloudEvent, value: Any
) -> None:
    raw = orjson.loads(encode(event))
    place: Any = raw
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        read = ACTIVITY.decode(json.dumps(raw).encode(), STRUCTURED)
    except Undecodable:
        return
    assert isinstance(read, SessionCompleted | PainReported)


@settings(deadline=None)
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["content-type", "ce_specversion", "ce_type", "ce_id", "ce_data", "ce_time", "traceparent"])
            | st.text(max_size=15),
            st.none() | st.binary(max_size=40) | st.just(b"application/json") | st.just(b"1.0"),
        ),
        max_size=6,
    )
)
def test_no_headers_raise_anything_but_undecodable(headers: list[tuple[str, bytes | None]]) -> None:
    try:
        read = ACTIVITY.decode(encode(SESSION), headers)
    except Undecodable:
        return
    assert read == with_schema(SESSION)


def test_a_null_value() -> None:
    assert refused(None).reason == "null-value"


def test_one_byte_too_many() -> None:
    padded = encode(SESSION)[:-1] + b',"later":"' + b"x" * EVENT_SIZE_MAX
    padded = padded[: EVENT_SIZE_MAX - 2] + b'"}'

    assert len(padded) == EVENT_SIZE_MAX
    assert ACTIVITY.decode(padded, STRUCTURED) == with_schema(SESSION)
    assert refused(padded + b" ").reason == "oversized"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{", b"[]", b"7", b'"text"', b"null", b"\xff\xfe{}", b"\x00", b'{"a":1}{"b":2}',
        b"\xef\xbb\xbf{}", '{"specversion":"1.0"}'.encode("utf-16"), b"[" * 1500, b'{"a":' * 1500,
        b'{"specversion":"\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_json_object(value: bytes) -> None:
    assert refused(value).reason == "malformed"
    assert refused(value, []).reason == "malformed"


@pytest.mark.parametrize(
    ("type_name", "detail"),
    [
        ("org.careloop.session.completed.v2", "... is not known"),
        ("org.careloop.plan.issued.v1", "... belongs to careloop.plans, not to careloop.activity"),
        (f"{SECRET} wrote this", "not a type of this topic"),
        ("", "not a type of this topic"),
    ],
)  # fmt: skip
def test_a_type_that_is_not_of_the_topic(type_name: str, detail: str) -> None:
    error = refused(changed(SESSION, type=type_name))

    assert (error.reason, error.detail) == ("unknown-type", detail.replace("...", type_name))


def test_a_type_of_another_topic_where_a_topic_has_one_type() -> None:
    error = refused(encode(SESSION), decoder=DECODERS["careloop.contacts"])

    assert error.reason == "unknown-type"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"data__pain_during": 11}, "data.pain_during"),
        ({"data__pain_during": "3"}, "data.pain_during"),
        ({"data__pain_during": 3.0}, "data.pain_during"),
        ({"data__pain_during": True}, "data.pain_during"),
        ({"data__pain_during": None}, "data.pain_during"),
        ({"data__pain_during": ...}, "data.pain_during"),
        ({"data__exercises__1__rpe": 99}, "data.exercises.1.rpe"),
        ({"data__exercises__0__exercise": SECRET}, "data.exercises.0.exercise"),
        ({"data__exercises": []}, "data.exercises"),
        ({"data__findings": [SECRET]}, "data.findings.0"),
        ({"data__started_at": "2026-10-07T11:30:00"}, "data.started_at"),
        ({"data__started_at": 1791372600}, "data.started_at"),
        ({"data__started_at": "0001-01-01T00:00:00+14:00"}, "data.started_at"),
        ({"data__started_at": "9999-12-31T23:59:59-12:00"}, "data.started_at"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
        ({"data__session_id": SECRET}, "data.session_id"),
        ({"data": SECRET}, "data"),
        ({"data": None}, "data"),
        ({"data": ...}, "data"),
        ({"id": ""}, "id"),
        ({"id": "with space"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "nul\x00"}, "id"),
        ({"id": 7}, "id"),
        ({"id": ...}, "id"),
        ({"source": None}, "source"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-10-07T11:52:00"}, "time"),
        ({"time": ...}, "time"),
        ({"subject": SECRET}, "subject"),
        ({"subject": ...}, "subject"),
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": ...}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"type": ...}, "type"),
        ({"type": 4}, "type"),
        ({"correlationid": "nul\x00"}, "correlationid"),
        ({"traceparent": SECRET}, "traceparent"),
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
    ],
)
def test_an_invalid_member_is_named_and_its_value_is_not(members: dict[str, Any], field: str) -> None:
    error = refused(changed(SESSION, **members))

    assert error.reason == "invalid"
    assert [path for path, _ in error.errors] == [field]
    assert error.detail.startswith(f"{field}: ")
    assert SECRET not in repr(error) + str(error) + error.detail + repr(error.errors)
    assert error.__context__ is None, "a traceback would show what was sent"


def test_a_single_type_topic_wants_its_type_said() -> None:
    contact = EXAMPLES["org.careloop.contact.changed.v1"]

    assert refused(changed(contact, type=...), decoder=DECODERS["careloop.contacts"]).errors[0][0] == "type"


def test_many_errors_are_told_up_to_five() -> None:
    exercises = [{"exercise": "x"} for _ in range(10)]

    assert len(refused(changed(SESSION, data__exercises=exercises)).errors) == 5


def test_members_of_a_newer_minor_version_are_ignored_everywhere() -> None:
    raw = orjson.loads(encode(SESSION))
    raw |= {"dataschema": "urn:careloop:schema:session.completed:1.7", "sequence": "12", "partitionkey": {"a": 1}}
    raw["data"]["mood"] = "good"
    raw["data"]["exercises"][0]["tempo"] = [3, 1, 3]
    read = ACTIVITY.decode(orjson.dumps(raw), STRUCTURED)

    assert read.data == SESSION.data
    assert read.dataschema == "urn:careloop:schema:session.completed:1.7"
    assert body_digest(read) == body_digest(SESSION)


def test_an_event_that_is_passed_on_says_which_contract_wrote_it() -> None:
    later = SESSION.model_copy(update={"dataschema": "urn:careloop:schema:session.completed:1.7"})

    assert orjson.loads(encode(later))["dataschema"] == schema_uri(SessionCompleted)


def test_attributes_that_are_not_set_may_be_null() -> None:
    read = ACTIVITY.decode(changed(SESSION, causationid=None, datacontenttype=None, traceparent=None), STRUCTURED)

    assert read == with_schema(SESSION).model_copy(update={"traceparent": None})


def test_the_media_type_of_the_data_may_have_parameters() -> None:
    read = ACTIVITY.decode(changed(SESSION, datacontenttype="application/json; charset=utf-8"), STRUCTURED)

    assert read == with_schema(SESSION)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-type", b"application/cloudevents+json; charset=UTF-8")],
        [("Content-Type", b"Application/CloudEvents+JSON")],
        [("content-type", None)],
        [("traceparent", None), ("content-type", b"application/cloudevents+json"), ("x", None)],
        [("content-type", b"application/cloudevents+json"), ("ce_specversion", b"1.0"), ("ce_id", b"other")],
    ],
)
def test_structured_mode_is_told_by_the_content_type_or_its_absence(headers: list[tuple[str, bytes | None]]) -> None:
    assert ACTIVITY.decode(encode(SESSION), headers) == with_schema(SESSION)


def test_a_structured_event_that_calls_itself_plain_json_is_refused_by_name() -> None:
    error = refused(encode(SESSION), [("content-type", b"application/json")])

    assert (error.reason, error.errors[0][0]) == ("invalid", "header ce_specversion")


def test_binary_mode_without_content_type() -> None:
    value, headers = as_binary(PAIN, without="content-type")

    assert ACTIVITY.decode(value, headers) == with_schema(PAIN)


def test_binary_mode_tolerates_headers_that_are_null_or_not_ours() -> None:
    value, headers = as_binary(PAIN, ce_traceparent=None, ce_causationid=None, other=None, baggage=b"\xff")

    assert ACTIVITY.decode(value, headers) == with_schema(PAIN).model_copy(update={"traceparent": None})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"ce_id": None}, "id"),
        ({"ce_id": b"\xff"}, "id"),
        ({"ce_subject": SECRET.encode()}, "subject"),
        ({"without": "ce_time"}, "time"),
        ({"ce_type": None}, "type"),
    ],
)
def test_an_invalid_attribute_of_binary_mode_is_named(more: dict[str, Any], field: str) -> None:
    value, headers = as_binary(PAIN, **more)
    error = refused(value, headers)

    assert (error.reason, error.errors[0][0]) == ("invalid", field)
    assert SECRET not in str(error)


def test_the_value_of_binary_mode_cannot_reach_the_envelope() -> None:
    """A value that would change the subject if it were pasted into the envelope, and a header that names the data."""
    value, headers = as_binary(PAIN, ce_data=b'{"score":0}', ce_datacontenttype=b"text/plain")

    assert ACTIVITY.decode(value, headers) == with_schema(PAIN)
    assert refused(value + b',"subject":"00000000-0000-4000-8000-000000000000"', headers).reason == "malformed"


def test_binary_mode_has_the_same_limits() -> None:
    _, headers = as_binary(PAIN)

    assert refused(None, headers).reason == "null-value"
    assert refused(b" " * (EVENT_SIZE_MAX + 1), headers).reason == "oversized"
    assert refused(b"{", headers).reason == "malformed"


def test_we_never_write_an_event_that_nobody_would_read() -> None:
    data = SESSION.data.model_copy(update={"exercises": SESSION.data.exercises * 2000})  # type: ignore[attr-defined]

    with pytest.raises(TooLarge, match=r"session.completed has \d+ bytes"):
        encode(SESSION.model_copy(update={"data": data}))


def test_every_event_has_an_example_that_its_topic_reads() -> None:
    assert list(EXAMPLES) == list(EVENTS)
    for name, example in EXAMPLES.items():
        assert event_type(type(example)) == name
        assert decoder_of(example).decode(encode(example), STRUCTURED) == with_schema(example)


def test_a_message_event_cannot_hold_its_text() -> None:
    message = EXAMPLES["org.careloop.message.sent.v1"]
    read = decoder_of(message).decode(changed(message, data__body=SECRET, data__text=SECRET), STRUCTURED)

    assert SECRET.encode() not in encode(read)
    assert isinstance(read, MessageSent)


def test_a_reader_that_panics_has_not_read_it_and_says_nothing_of_what_was_sent() -> None:
    """As an extension written in Rust does, with what is no Exception."""

    class Panic(BaseException):
        pass

    def panic(*_: object, **__: object) -> CloudEvent:
        raise Panic(SECRET)

    decoder = Decoder(TOPIC_OF["careloop.activity"])
    decoder._validate = panic
    with pytest.raises(Undecodable) as raised:
        decoder.decode(encode(PAIN), HEADERS)
    assert (raised.value.reason, raised.value.__cause__, raised.value.__context__) == ("malformed", None, None)
    assert SECRET not in str(raised.value)
