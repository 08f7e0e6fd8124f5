"""From raw Kafka records to what can be decided on: decoded, with identity and digest, or with the reason why not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from shared.events.codec import Decoder, Undecodable, body_digest
from shared.events.envelope import CloudEvent
from shared.held_events import HeldEvent, HeldState
from shared.inbox import coordinates_identity, inbox_identity

AHEAD_MAX = timedelta(minutes=5)
"""A phone's clock may be this far ahead."""
AGE_MAX = timedelta(days=30)
"""An event older than this is not accepted: topic retention plus this stays under what the inbox remembers."""
WAIT_MAX = timedelta(hours=24)
"""How long, in clinic time, an event waits for what it needs before it becomes a dead letter."""


class RawRecord(Protocol):
    """What is used of a Kafka record."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record can never be applied as it is."""

    reason: str
    detail: str
    blocks: bool
    """Whether later events of its member must queue behind it: only where a fixed reader could still apply it."""


@dataclass(slots=True)
class Arrival:
    record: RawRecord
    member_id: UUID | None
    """From the event, or from the record's key where the event cannot be read."""
    event: CloudEvent | None
    fault: Fault | None
    identity: bytes
    digest: bytes


REPAIRABLE = frozenset({"malformed", "unknown-type", "invalid"})
"""Faults that a fixed schema or upcaster may heal; the others are wrong whoever reads them."""


def read_key(key: bytes | None) -> UUID | None:
    """The member's UUID of a record's key, or None where it is not one."""
    try:
        return UUID(key.decode("ascii")) if key is not None and len(key) == 36 else None
    except ValueError:
        return None


def read_arrival(record: RawRecord, *, decoder: Decoder, group: str, topic: str, now: datetime) -> Arrival:
    """Decode one record and judge what can be judged without the database. Never raises for a bad record."""
    member_id = read_key(record.key)
    try:
        event = decoder.decode(record.value, record.headers)
    except Undecodable as error:
        coordinates = coordinates_identity(group, topic, record.partition, record.offset)
        blocks = member_id is not None and error.reason in REPAIRABLE
        return Arrival(record, member_id, None, Fault(error.reason, error.detail, blocks), coordinates, coordinates)
    identity = inbox_identity(group, event.source, event.id)
    arrival = Arrival(record, event.subject, event, None, identity, body_digest(event))
    if member_id != event.subject:
        arrival.fault = Fault("wrong-key", "the key of the record is not the subject of the event", blocks=False)
    elif event.time > now + AHEAD_MAX:
        arrival.fault = Fault("time-ahead", "time is more than 5 minutes ahead", blocks=False)
    elif event.time < now - AGE_MAX:
        arrival.fault = Fault("too-old", "time is more than 30 days ago", blocks=False)
    if arrival.fault is not None:  # its identity stays free, so that the event published rightly is no duplicate
        arrival.identity = coordinates_identity(group, topic, record.partition, record.offset)
    return arrival


def to_held(
    arrival: Arrival, *, state: HeldState, reason: str, detail: str | None, blocks: bool, now: datetime
) -> HeldEvent:
    """An arrival as a row of held events, its raw bytes kept."""
    record, event = arrival.record, arrival.event
    return HeldEvent(
        partition=record.partition,
        record_offset=record.offset,
        record_key=record.key,
        member_id=arrival.member_id,
        blocks=blocks and arrival.member_id is not None,
        state=state,
        reason=reason,
        detail=detail,
        identity=arrival.identity,
        source=event.source if event else None,
        event_id=event.id if event else None,
        value=record.value,
        headers=list(record.headers),
        record_at=datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC),
        expires_at=now + WAIT_MAX if state == "waiting" else None,
    )
