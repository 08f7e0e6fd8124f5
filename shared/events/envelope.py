"""The CloudEvents 1.0 envelope that every Careloop event shares.

Identity of an event is (source, id). `subject` is the member's random UUID and also the key of the Kafka record, so
that one member's events stay in order. `causationid` and `causationsource` name the event or command whose handling
emitted this one; `correlationid` names the whole chain.
"""

from datetime import UTC, datetime
from hashlib import sha1
from typing import Annotated, ClassVar, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from annotated_types import Ge, Lt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

NAMESPACE = uuid5(NAMESPACE_URL, "urn:careloop")
_NAMESPACE_HASH = sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
EVENT_SIZE_MAX = 65_536
"""Bytes of one structured-mode event. A session with its answers is about 1,000; the limit keeps a batch in memory."""

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps every character but this one: text that holds it could be read and then never saved."""

Instant = Annotated[AwareDatetime, Ge(datetime(2000, 1, 1, tzinfo=UTC)), Lt(datetime(2200, 1, 1, tzinfo=UTC))]
"""A time with an offset. Far from now it is a mistake; at the ends of the calendar it cannot be converted to UTC."""
EventId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
SourceUri = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
Traceparent = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class Record(BaseModel):
    """A frozen, strict value inside an event. Building one refuses undeclared fields; decoding ignores them, so a newer
    minor version of a contract can add fields without breaking a reader."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class EventRef(Record):
    """The identity of an event."""

    source: SourceUri
    id: EventId


class Decision(Record):
    """Why something was decided: which rule, which version of it, on which evidence, in one line a member can read."""

    rule_id: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=NO_NUL)]
    rule_version: Annotated[int, Field(ge=1)]
    reason: Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=NO_NUL)]
    evidence: Annotated[tuple[EventRef, ...], Field(max_length=50)] = ()


class CloudEvent(Record):
    """The envelope. A concrete event narrows `type` and `data`; NAME and MINOR make its `dataschema`."""

    NAME: ClassVar[str]
    MINOR: ClassVar[int] = 0

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    """Chosen by who publishes it, unique within the source. A retry sends the same id with the same content."""
    source: SourceUri
    """Who published it, such as urn:careloop:plans. With `id` the identity of the event."""
    type: str
    time: Instant
    """When it happened, with an offset; at most 5 minutes ahead and 30 days ago when it is read."""
    subject: UUID
    """The member's random UUID; also the key of the record."""
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)] | None = None
    """Name, major and minor version of the contract it was written by."""
    traceparent: Traceparent | None = None
    """W3C trace context."""
    correlationid: EventId | None = None
    """Names the whole chain that the event belongs to."""
    causationid: EventId | None = None
    """The event or command whose handling emitted this one."""
    causationsource: SourceUri | None = None
    """The source of that event or command."""
    data: Record

    @property
    def ref(self) -> EventRef:
        return EventRef(source=self.source, id=self.id)

    @property
    def chain(self) -> str:
        """The correlation id of everything that follows from this event; an event without one starts a chain."""
        return self.correlationid or derive_id(f"{self.source} {self.id}")


def derive_id(name: str) -> str:
    """`str(uuid5(NAMESPACE, name))`, without the object: it is made twice for every event that is published."""
    named = _NAMESPACE_HASH.copy()
    named.update(name.encode())
    h = named.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def event_type(event: type[CloudEvent]) -> str:
    """The CloudEvents `type` of an event class, such as `org.careloop.session.completed.v1`."""
    annotation = event.model_fields["type"].annotation
    (name,) = annotation.__args__  # type: ignore[union-attr]  # a Literal of one string, checked by the catalogue's test
    return str(name)


def schema_uri(event: type[CloudEvent]) -> str:
    """The `dataschema` written on an event: name, major and minor version of its contract."""
    major = event_type(event).rsplit(".v", 1)[1]
    return f"urn:careloop:schema:{event.NAME}:{major}.{event.MINOR}"
