"""Events as bytes: CloudEvents 1.0 on Kafka, structured mode written, structured and binary mode read.

Reading is strict about what a contract says and tolerant of what it does not: fields of a newer minor version are
ignored. What cannot be read is `Undecodable` with a reason and the path of a field, never with a value: values are
health data.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, Union, cast

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from shared.events.catalogue import APPS, TOPIC_OF_TYPE, Topic
from shared.events.envelope import EVENT_SIZE_MAX, CloudEvent, Record, event_type, schema_uri
from shared.events.upcasters import UPCASTERS, Upcaster, UpcastFailed, upcast

STRUCTURED: Final = "application/cloudevents+json"
HEADERS: Final[tuple[tuple[str, bytes], ...]] = (("content-type", STRUCTURED.encode()),)
"""The headers of a record in structured mode, as we write it."""
REJECTED_HEADERS: Final[tuple[tuple[str, bytes], ...]] = (*HEADERS, ("careloop-rejected", b"true"))
"""Of an event whose app was told that it is rejected: it is there for those alone who look for red flags."""

Header = tuple[str, bytes | None]
Reason = Literal["null-value", "oversized", "malformed", "unknown-type", "invalid"]

ERRORS_MAX: Final = 5
VALUES_MAX: Final = 4_000
"""JSON values in one event: more than any contract has room for. The validator keeps what it was given
with each error: to say what is wrong with 20,000 takes it half a second, in which the process does nothing else."""
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_CLASS_OF_TYPE: Final = {event_type(e): e for topic in TOPIC_OF_TYPE.values() for e in topic.events}
_SCHEMA_MEMBER: Final = {e: f'{{"dataschema":"{schema_uri(e)}",'.encode() for e in _CLASS_OF_TYPE.values()}
_UP_TO_ID: Final = {e: f'{said.decode()}"specversion":"1.0","id":"' for e, said in _SCHEMA_MEMBER.items()}
_TYPE_OF_CLASS: Final = {e: name for name, e in _CLASS_OF_TYPE.items()}
_DATA_OF_CLASS: Final[dict[type[CloudEvent], Any]] = {
    e: e.model_fields["data"].annotation for e in _CLASS_OF_TYPE.values()
}
_ALWAYS_SENT: Final = frozenset({"specversion", "type"})
"""Attributes with a default for who builds an event, but that CloudEvents wants said."""
_WRITTEN_FIRST: Final = {"dataschema"}
"""It says which contract wrote the event, so it is always ours, also where one is passed on."""
_OWN_TYPE: Final = re.compile(r"org\.careloop\.[a-z0-9.-]{1,80}")
_ATTRIBUTE: Final = re.compile(r"ce_([a-z0-9]{1,40})")
_SAYS_NO_VALUE: Final = frozenset({
    "bool_type", "date_type", "datetime_type", "float_type", "greater_than_equal", "int_type", "less_than_equal",
    "literal_error", "missing", "string_pattern_mismatch", "string_too_long", "string_too_short", "string_type",
    "timezone_aware", "too_long", "too_short", "tuple_type", "uuid_type",
})  # fmt: skip
"""Errors whose message tells the rule and nothing of what was sent; of others only the kind is told."""


class Undecodable(Exception):
    """A record that is no event of its topic. `detail` and `errors` name fields, never values."""

    def __init__(self, reason: Reason, detail: str, *, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
        self.errors = tuple(errors)
        """(path of the field, what is wrong with it), at most 5."""


class TooLarge(ValueError):
    """An event of ours that nobody would accept. A bug of whoever made it."""


def encode(event: CloudEvent) -> bytes:
    """The event in structured mode (JSON, UTF-8) with its `dataschema`. TooLarge above 65,536 bytes."""
    cls = type(event)
    raw = cls.__pydantic_serializer__.to_json(event, exclude_none=True, exclude=_WRITTEN_FIRST)
    return _not_too_large(cls, _SCHEMA_MEMBER[cls] + raw[1:])


def encode_made(
    cls: type[CloudEvent],
    data: Record,
    *,
    id: str,  # the attribute's name
    source: str,
    time: bytes,
    subject: bytes,
    traceparent: str,
    chain: str,
    cause: tuple[str, str],
) -> bytes:
    """The bytes that `encode` makes of the event with these values, a quarter of the work: no event is made. For what a
    service publishes itself: every value but the data is ours or was in an event, so that nothing has to be read again.
    `time` is a JSON string, `cause` the (source, id) of the event's cause. TooLarge as above."""
    data_class = _DATA_OF_CLASS[cls]
    if type(data) is not data_class:
        raise TypeError(f"{cls.NAME} takes no {type(data).__name__}")
    encoded = b"".join((
        f'{_UP_TO_ID[cls]}{id}","source":"{source}","type":"{_TYPE_OF_CLASS[cls]}","time":'.encode(), time,
        b',"subject":"', subject,
        f'","datacontenttype":"application/json","traceparent":"{traceparent}","correlationid":'.encode(),
        orjson.dumps(chain), b',"causationid":', orjson.dumps(cause[1]), b',"causationsource":', orjson.dumps(cause[0]),
        b',"data":', data_class.__pydantic_serializer__.to_json(data, exclude_none=True), b"}",
    ))  # fmt: skip
    return _not_too_large(cls, encoded)


def _not_too_large(cls: type[CloudEvent], encoded: bytes) -> bytes:
    if len(encoded) > EVENT_SIZE_MAX:
        raise TooLarge(f"{cls.NAME} has {len(encoded)} bytes, at most {EVENT_SIZE_MAX} are allowed")
    return encoded


def body_digest(event: CloudEvent) -> bytes:
    """16 bytes that are equal for equal content: type, subject and data, in whatever mode or member order they came.

    Not of the time, trace or correlation: a retry over another route is the same event. Members at their default are
    left out, so that a field added with a default does not change the digest of events that were written before it.
    """
    data = event.data
    raw = type(data).__pydantic_serializer__.to_json(data, exclude_defaults=True)
    return blake2b(b"%b%b%b" % (event.subject.bytes, event.type.encode(), raw), digest_size=16).digest()


class Decoder:
    """Reads the records of one topic."""

    __slots__ = ("_topic", "_types", "_upcasters", "_validate")

    def __init__(self, topic: Topic, *, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> None:
        self._topic = topic
        self._types = frozenset(event_type(event) for event in topic.events)
        self._upcasters = upcasters
        union: Any = Union[topic.events]  # noqa: UP007  # of a tuple known at run time only
        annotation: Any = Annotated[union, Field(discriminator="type")] if len(topic.events) > 1 else union
        adapter: TypeAdapter[CloudEvent] = TypeAdapter(annotation)
        self._validate = adapter.validator.validate_json

    @property
    def is_from_apps(self) -> bool:
        """Whether others than our own services publish these events."""
        return self._topic.publisher == APPS

    def decode(self, value: bytes | None, headers: Sequence[Header]) -> CloudEvent:
        """The event of a record. Raises Undecodable and nothing else, whatever the bytes are."""
        if value is None:
            raise Undecodable("null-value", "the record has no value")
        if len(value) > EVENT_SIZE_MAX:
            raise Undecodable("oversized", f"{len(value)} bytes, at most {EVENT_SIZE_MAX} are allowed")
        if headers and headers != HEADERS:
            value = _structured(value, headers)
        if len(value) > 2 * VALUES_MAX and _holds_too_many(value):
            raise Undecodable("oversized", f"more than {VALUES_MAX} JSON values")
        try:
            try:
                event: CloudEvent | None = self._validate(value, extra="ignore")
            except ValidationError:
                event = None  # the error holds what was sent: look again outside, so that no traceback shows it
            if event is None or not event.model_fields_set >= _ALWAYS_SENT:
                event = self._read_slowly(value)
            return event
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            pass  # an extension written in Rust panics with what is no Exception
        raise Undecodable("malformed", "no reader can read it")

    def _read_slowly(self, value: bytes) -> CloudEvent:
        """What is not plainly an event of today: an older version, members that are null or spelt otherwise, or an
        error to be named."""
        event = _object(value)
        if not isinstance(event.get("specversion"), str):
            raise _invalid([("specversion", "Field required")])
        if not isinstance(event.get("type"), str):
            raise _invalid([("type", "Field required")])
        event = self._upcast(event)
        if event["type"] not in self._types:
            raise Undecodable("unknown-type", _of_type(event["type"], self._topic))
        try:
            return cast(CloudEvent, self._validate(to_json(_plain(event)), extra="ignore"))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise _invalid([(_path(problem, self._types), _message(problem)) for problem in problems[:ERRORS_MAX]])

    def _upcast(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["type"] not in self._upcasters:
            return event
        try:
            return upcast(event, upcasters=self._upcasters)
        except UpcastFailed as error:
            problem = str(error)
        raise Undecodable("invalid", f"an older version that cannot be brought up to date: {problem}")


def members_of(value: bytes | None, headers: Sequence[Header]) -> Mapping[str, Any]:
    """The members of what is no valid event, none of which anybody has judged; none where it is no JSON object."""
    try:
        return _object(_structured(value, headers)) if value is not None and len(value) <= EVENT_SIZE_MAX else {}
    except Undecodable:
        return {}


def _structured(value: bytes, headers: Sequence[Header]) -> bytes:
    """The event in structured mode. Its mode is told by the content-type header; without one it is structured."""
    content_type = None
    for name, content in headers:
        if len(name) == 12 and content is not None and name.lower() == "content-type":
            content_type = content
    if content_type is None and not any(name == "ce_specversion" for name, _ in headers):
        return value
    if content_type is not None and content_type.lower().startswith(b"application/cloudevents"):
        return value
    return _from_binary(value, headers)


def _from_binary(value: bytes, headers: Sequence[Header]) -> bytes:
    """Binary mode: attributes are headers with the prefix `ce_`, the value is the data. A header without a value is
    an attribute that is not set."""
    event: dict[str, Any] = {}
    for name, content in headers:
        matched = _ATTRIBUTE.fullmatch(name)
        if matched and content is not None:
            try:
                event[matched[1]] = content.decode()
            except UnicodeDecodeError:
                event[matched[1]] = None  # read as not set, so that a required attribute is reported by its name
    if "specversion" not in event:
        raise _invalid([("header ce_specversion", "Field required")])
    event["datacontenttype"] = "application/json"
    event["data"] = _json(value)
    return to_json(event)


def to_json(value: Any) -> bytes:
    """What was read as JSON, as JSON again. Undecodable where it is nested deeper than any reader follows, or a text
    of it holds half of a sign."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    raise Undecodable("malformed", "nested too deeply, or half of a sign in a text")


def _holds_too_many(value: bytes) -> bool:
    """Each value but the outermost stands behind one of these signs, which may also be in a text."""
    return _count_signs(value) > VALUES_MAX and _count_signs(_TEXT.sub(b"", value)) > VALUES_MAX


def _count_signs(value: bytes) -> int:
    return value.count(b",") + value.count(b"[") + value.count(b"{")


def _json(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        pass  # its message quotes what was sent
    raise Undecodable("malformed", "not JSON in UTF-8")


def _object(value: bytes) -> dict[str, Any]:
    event = _json(value)
    if not isinstance(event, dict):
        raise Undecodable("malformed", "not a JSON object")
    return event


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    """CloudEvents lets an attribute that is not set be null, and a media type have parameters."""
    event = {name: member for name, member in event.items() if member is not None}
    media_type = event.get("datacontenttype")
    if isinstance(media_type, str) and media_type.partition(";")[0].strip().lower() == "application/json":
        event["datacontenttype"] = "application/json"
    return event


def _path(problem: ErrorDetails, types: frozenset[str]) -> str:
    """Such as `data.exercises.2.rpe`; without the type, which pydantic puts first for a union."""
    location = problem["loc"][1:] if problem["loc"] and problem["loc"][0] in types else problem["loc"]
    return ".".join(str(part) for part in location) or "event"


def _message(problem: ErrorDetails) -> str:
    return problem["msg"] if problem["type"] in _SAYS_NO_VALUE else problem["type"].replace("_", " ")


def _invalid(errors: Sequence[tuple[str, str]]) -> Undecodable:
    return Undecodable("invalid", "; ".join(f"{path}: {message}" for path, message in errors), errors=errors)


def _of_type(name: str, topic: Topic) -> str:
    """What is wrong with a type; the type itself only where it looks like one of ours, for it is free text."""
    if name in TOPIC_OF_TYPE:
        return f"{name} belongs to {TOPIC_OF_TYPE[name].name}, not to {topic.name}"
    return f"{name} is not known" if _OWN_TYPE.fullmatch(name) else "not a type of this topic"
