"""From raw Kafka records to what can be decided on: decoded, with identity and digest, or with the reason why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast
from uuid import UUID

from pydantic import ValidationError

from shared.events.codec import REJECTED_HEADERS, Decoder, Undecodable, body_digest, members_of
from shared.events.envelope import CloudEvent, EventRef
from shared.held_events import HeldEvent, HeldState
from shared.inbox import coordinates_identity, inbox_identity
from shared.partitioning import Key, key_of
from shared.subscriptions import Loosely

AHEAD_MAX = timedelta(minutes=5)
"""A phone's clock may be this far ahead."""
CLOCKS_APART = timedelta(minutes=3)
"""Our own clocks may be so far apart: what one process has accepted no other refuses."""
AGE_MAX = timedelta(days=30)
"""An event that was older than this when it was published is not accepted."""
READ_AGE_MAX = timedelta(days=34)
"""Nor one that is older than this when it is read, however long its record lay in the log: inboxes remember 35 days."""
WAIT_MAX = timedelta(hours=24)
"""How long, in clinic time, an event waits for what it needs before it becomes a dead letter."""
TIMESTAMP_MAX_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


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
    is_harmless: bool = False
    """Whether a safety group looks for red flags all the same: a flag of a wrong time, or told twice, does no harm; one
    that is missed does."""


@dataclass(slots=True)
class Arrival:
    record: RawRecord
    key: Key | None
    """The member's, from the event, or from the record's key where the event cannot be read."""
    event: CloudEvent | None
    fault: Fault | None
    identity: bytes
    digest: bytes

    @property
    def member_id(self) -> UUID | None:
        return self.key.member_id if self.key is not None else None


WRONG_KEY = Fault("wrong-key", "the key of the record is not the subject of the event", blocks=False, is_harmless=True)
TIME_AHEAD = Fault("time-ahead", "time is more than 5 minutes ahead", blocks=False, is_harmless=True)
TOO_OLD = Fault("too-old", "time is more than 30 days ago", blocks=False, is_harmless=True)
IDENTITY_CONFLICT = Fault(
    "identity-conflict", "the same source and id came before with another body", blocks=False, is_harmless=True
)
REJECTED = Fault(
    "rejected", "its app was told that it is rejected; only red flags were looked for", blocks=False, is_harmless=True
)
READ_LOOSELY = Fault("invalid", "it is no valid event; only red flags were looked for", blocks=False, is_harmless=True)
KILLER = Fault("kills-the-process", "begun several times and never ended", blocks=True)
TOO_SLOW = Fault("takes-too-long", "took longer than a transaction may, tried alone, while others got on", blocks=True)
UNSTORABLE = Fault("cannot-be-held", "could not be taken, nor held as it is; its headers were left out", blocks=True)
REPAIRABLE = frozenset({"malformed", "unknown-type", "invalid"})
"""Faults that a fixed schema or upcaster may heal; the others are wrong whoever reads them."""


def read_key(key: bytes | None) -> UUID | None:
    """The member's UUID of a record's key, or None where it is not one."""
    try:
        return UUID(key.decode("ascii")) if key is not None and len(key) == 36 else None
    except ValueError:
        return None


def identity_of_place(record: RawRecord, *, group: str, topic: str) -> bytes:
    """The inbox identity of a record that has, or may use, no other."""
    return coordinates_identity(group, topic, record.partition, record.offset, record.timestamp)


def read_arrivals(
    records: Sequence[RawRecord],
    *,
    decoder: Decoder,
    group: str,
    topic: str,
    now: datetime,
    wall: datetime,
    judges_time: bool = True,
    loosely: Loosely | None = None,
) -> list[Arrival]:
    """Decode records and judge what can be judged without the database, at clinic time `now` and wall time `wall`;
    their time only if `judges_time`, for whoever reads history once more. What is no valid event is read `loosely`
    where that is given. Never raises for a bad record."""
    # Our own clocks are not judged by each other.
    is_from_apps, rejected = decoder.is_from_apps, REJECTED_HEADERS[-1]
    youngest = -AHEAD_MAX - CLOCKS_APART if judges_time and is_from_apps else timedelta.min
    oldest = AGE_MAX if judges_time else timedelta.max
    arrivals: list[Arrival] = []
    for record in records:
        try:
            event = decoder.decode(record.value, record.headers)
        except Undecodable as error:
            is_rejected = is_from_apps and rejected in record.headers
            fault = Fault(error.reason, error.detail, blocks=error.reason in REPAIRABLE and not is_rejected)
            arrival = unread(record, fault, group=group, topic=topic)
            arrivals.append(_read_loosely(arrival, loosely, group=group, now=now) if loosely else arrival)
            continue
        identity, key = inbox_identity(group, event.source, event.id), key_of(event.subject)
        arrival = Arrival(record, key, event, None, identity, body_digest(event))
        if record.key != key.raw and read_key(record.key) != event.subject:
            arrival.fault = WRONG_KEY
        elif is_from_apps and rejected in record.headers:
            arrival.fault = REJECTED
        elif (age := now - event.time) < youngest:
            arrival.fault = TIME_AHEAD
        elif age > oldest and _is_too_old(event.time, record, now=now, wall=wall):
            arrival.fault = TOO_OLD
        if arrival.fault is not None:  # its identity stays free, so that the event published rightly is no duplicate
            arrival.identity = identity_of_place(record, group=group, topic=topic)
        arrivals.append(arrival)
    return arrivals


def _read_loosely(arrival: Arrival, loosely: Loosely, *, group: str, now: datetime) -> Arrival:
    """The same, with what can be judged of it all the same. Sent again, it is judged once, where it says who it is."""
    record, key = arrival.record, arrival.key
    if key is None:
        return arrival
    try:
        members = members_of(record.value, record.headers)
        named = _ref_of(members)
        ref = named or EventRef(source="urn:careloop:unreadable", id=arrival.identity.hex())
        event = loosely(members, ref, key.member_id, now)
    except Exception:  # whatever it holds: nobody has looked at it then, and somebody hears of that
        return arrival
    if event is None:
        return arrival
    identity = inbox_identity(group, *_loose(named)) if named else arrival.identity
    return Arrival(record, key, event, READ_LOOSELY, identity, body_digest(event))


def read_loose_name(record: RawRecord) -> tuple[str, str] | None:
    """Under what source and id a safety group takes what is no valid event; None where it takes it by its place."""
    named = _ref_of(members_of(record.value, record.headers))
    return _loose(named) if named else None


def _loose(named: EventRef) -> tuple[str, str]:
    """Beside the name of a valid event, which another body may have: as no valid source has a space."""
    return f"loosely {named.source}", named.id


def _ref_of(members: Mapping[str, Any]) -> EventRef | None:
    try:
        return EventRef(source=members["source"], id=members["id"])
    except (KeyError, ValidationError):
        return None


def _is_too_old(time: datetime, record: RawRecord, *, now: datetime, wall: datetime) -> bool:
    """What was accepted in time stays accepted although its record had to wait in the log, or on its way there."""
    waited = max(wall - record_time(record), timedelta(0)) + CLOCKS_APART
    return time < now - READ_AGE_MAX or time < now - waited - AGE_MAX


def record_time(record: RawRecord) -> datetime:
    """The record's timestamp; the end of the calendar for one that lies beyond it."""
    return datetime.fromtimestamp(min(max(record.timestamp, 0) / 1000, TIMESTAMP_MAX_S), UTC)


def unread(record: RawRecord, fault: Fault, *, group: str, topic: str) -> Arrival:
    """A record that nobody can read, or that is condemned without being read, under the identity of its place."""
    member_id, place = read_key(record.key), identity_of_place(record, group=group, topic=topic)
    return Arrival(record, None if member_id is None else key_of(member_id), None, fault, place, place)


def without_headers(arrival: Arrival, *, group: str, topic: str) -> Arrival:
    """The last resort: only what no database refuses, under the identity of its place."""
    bare = replace(cast(Any, arrival.record), headers=())  # a dataclass, as the client makes it
    return unread(bare, UNSTORABLE, group=group, topic=topic)


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
        record_at=record_time(record),
        expires_at=now + WAIT_MAX if state == "waiting" else None,
    )
