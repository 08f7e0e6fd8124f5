"""What a handler answers: events to publish, refusals with their reason, events that must wait, and what is left to
write.

A handler never publishes, commits or catches. It returns these values; the runtime records each outcome and puts the
events in the outbox in the same transaction as the handler's own writes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from shared.events.envelope import CloudEvent, Record, derive_id


class Cause(NamedTuple):
    """The event or command because of which something happens. A named tuple, as drafts are: made for every event."""

    source: str
    id: str
    chain: str
    """Correlation id of everything that follows."""
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A request of a person or an app that a service carries out at once, in one transaction."""

    name: str
    """Such as `book-visit`."""
    id: str
    """Unique per request; an idempotency key where the caller gave one."""
    member_id: UUID | None
    """None where it is about several members: each event then names its own."""
    cause: Cause


@dataclass(frozen=True, kw_only=True, slots=True)
class Timer:
    """Something due at a clinic time. (kind, key) is unique: saving it again moves it."""

    kind: str
    """Such as `alert.escalation`."""
    key: str
    member_id: UUID
    due_at: datetime
    cause: Cause
    """What set it; events that it emits name this as their cause."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only."""


def cause_of(because: CloudEvent | Command | Timer) -> Cause:
    """The cause that an event emitted because of this one names."""
    if isinstance(because, (Command, Timer)):
        return because.cause
    return Cause(because.source, because.id, because.chain, because.traceparent)


def service_source(service: str) -> str:
    """The CloudEvents `source` of everything a service publishes."""
    return f"urn:careloop:{service}"


def step_of(because: CloudEvent | Command | Timer) -> str | None:
    """What tells apart several steps that name the same cause: the timer or the command. None for an event, where it is
    the consumer group."""
    match because:
        case Timer():
            return f"timer {because.kind} {because.key} {because.due_at.isoformat()}"
        case Command():
            return f"command {because.name} {because.id}"
        case _:
            return None


def trace_of(cause: Cause, event_id: str) -> str:
    """W3C trace context of an event: the cause's trace, or one of the chain's own, with a span for this event."""
    span = f"{event_id[-17:-13]}{event_id[-12:]}"
    if cause.traceparent:
        version, trace, _, flags = cause.traceparent.split("-")
        return f"{version}-{trace}-{span}-{flags}"
    return f"00-{hashlib.blake2b(cause.chain.encode(), digest_size=16).hexdigest()}-{span}-01"


def name_event(event: type[CloudEvent], *, service: str, about: UUID, because: CloudEvent | Command | Timer) -> Cause:
    """The identity of an event that is going to be published about this thing because of that, as the cause of what
    follows from it: known in the transaction that decides, before the event has been anywhere."""
    cause = cause_of(because)
    event_id = derive_id(f"{event.NAME} {about} {step_of(because) or ''} {cause.source} {cause.id}")
    return Cause(source=service_source(service), id=event_id, chain=cause.chain, traceparent=trace_of(cause, event_id))


class Draft(NamedTuple):
    """An event to publish, before it has its id, source and time."""

    event: type[CloudEvent]
    data: Record
    because: CloudEvent | Command | Timer
    member_id: UUID
    named: Cause | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The domain's no, as a value: a stable reason code and one line without member data."""

    reason: str
    detail: str = ""


class Write(NamedTuple):
    """An insert, update or delete, and the arguments of its placeholders from $1 on. Or, where it `answers`, a select
    from its parts, whose rows whoever waits for the commit is given (`wakes` of shared/service.py)."""

    statement: str
    """Without a `with` of its own."""
    arguments: Sequence[Any]
    parts: str = ""
    """What comes before the statement: `name as (...), ...`, with names that nothing beside it has."""
    answers: bool = False
    """One of those that are written together at most."""


Answer: TypeAlias = Sequence[Any]
"""The rows of the write that answers; none where there was no such write."""


Ref: TypeAlias = tuple[str, str]
"""The source and id of an event."""


def ref_of(event: CloudEvent) -> Ref:
    return (event.source, event.id)


@dataclass(slots=True)
class Outcomes:
    """Collects what a handler decided about the events it was given. Not mentioned = applied."""

    published: list[Draft] = field(default_factory=list)
    refused: dict[Ref, str] = field(default_factory=dict)
    waiting: dict[Ref, str] = field(default_factory=dict)
    writes: list[Write | None] = field(default_factory=list)
    """What the handler leaves to be written: last, and in one statement with the events (shared/writing.py)."""

    def publish(
        self,
        event: type[CloudEvent],
        data: Record,
        *,
        because: CloudEvent | Command | Timer,
        member_id: UUID | None = None,
        named: Cause | None = None,
        urgent: bool = False,
    ) -> None:
        """Publish an event of this class and data because of that event, command or timer. The member is the cause's
        unless another is given; `named` is the identity that name_event gave it, where something refers to it. What is
        `urgent`, a red flag, goes out beside the rest, in no order with what else is published about its member."""
        owner = because.member_id if isinstance(because, (Command, Timer)) else because.subject
        member = member_id or owner
        if member is None:
            raise ValueError("a command about several members names the member of each event")
        self.published.append(Draft(event, data, because, member, named, urgent))

    def refuse(self, event: CloudEvent, *, reason: str) -> None:
        """The domain refuses this event: recorded as its outcome, nothing is parked, later events go on."""
        self.refused[ref_of(event)] = reason

    def wait(self, event: CloudEvent, *, needs: str) -> None:
        """This event needs something (`member`, `care-plan`) that has not come yet. The handler must then take neither
        it nor any later event of the same member in this call; the runtime keeps them in order and tries again when
        the missing thing may have come."""
        self.waiting[ref_of(event)] = needs
