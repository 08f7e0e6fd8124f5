"""Twelve weeks of many simulated members: the examples of the contracts, lived by each of them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from deploy.contracts.examples import EXAMPLES
from deploy.contracts.examples.member import COACH, MEMBER, PT
from shared.arrivals import Arrival, read_arrivals
from shared.events import CloudEvent, MemberScreened, SessionCompleted
from shared.events.catalogue import TOPIC_OF_TYPE
from shared.events.codec import HEADERS, encode
from shared.replaying import Reader

ANY_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
SHARED = {str(person.practitioner_id).encode() for person in (PT, COACH)}
"""Everybody has the same care team; everything else of a member is their own."""


def _lived(event: CloudEvent) -> CloudEvent:
    """Each member's plan is issued by the service itself: a session names none rather than one that is not theirs. What
    the screening of each finds blocks a plan at first: else nobody would be asked because of one."""
    match event:
        case SessionCompleted():
            changed: dict[str, object] = {"plan_id": None, "plan_version": None}
        case MemberScreened():
            changed = {"disposition": "clinician-72h"}
        case _:
            return event
    return event.model_copy(update={"data": event.data.model_copy(update=changed)})


STORY: Sequence[CloudEvent] = [_lived(event) for event in sorted(EXAMPLES.values(), key=lambda event: event.time)]


@dataclass(frozen=True, slots=True)
class Told:
    """An event of one member, as bytes."""

    event: CloudEvent
    """The example: its type, its time and whose story it is part of."""
    member_id: UUID
    value: bytes


def tell(event: CloudEvent, number: int) -> Told:
    """The same event in the life of the member of this number."""

    def own(found: re.Match[bytes]) -> bytes:
        return found[0] if found[0] in SHARED else str(uuid5(UUID(found[0].decode()), str(number))).encode()

    return Told(event, member_of(number), ANY_UUID.sub(own, encode(event)))


def of_topic(topic: str) -> list[CloudEvent]:
    return [event for event in STORY if TOPIC_OF_TYPE[event.type].name == topic]


def before(topic: str) -> list[CloudEvent]:
    """What has happened on other topics when the first event of this one is published."""
    first = of_topic(topic)[0]
    return [event for event in STORY[: STORY.index(first)] if TOPIC_OF_TYPE[event.type].name != topic]


def mixed(events: Sequence[CloudEvent], count: int, numbers: Iterator[int]) -> list[Told]:
    """So many events: each member lives through all of these, side by side; what is left over are first events."""
    members = [next(numbers) for _ in range(count // len(events))]
    told = [tell(event, member) for event in events for member in members]
    return told + [tell(events[0], next(numbers)) for _ in range(count - len(told))]


@dataclass
class Log:
    """A partition of a topic, as a consumer group reads it."""

    reader: Reader
    end: int = 0
    records: list[Arrival] = field(default_factory=list)

    def append(self, told: Sequence[Told], *, now: datetime) -> list[Arrival]:
        subscription = self.reader.subscription
        at_ms = int(now.timestamp() * 1000)
        records = [
            Record(0, offset, str(one.member_id).encode(), one.value, at_ms)
            for offset, one in enumerate(told, start=self.end)
        ]
        self.end += len(records)
        return read_arrivals(
            records, decoder=self.reader.decoder, group=subscription.group, topic=subscription.topic, now=now, wall=now,
            judges_time=False,  # a chunk may hold weeks of a life
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in the log."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int
    headers: Sequence[tuple[str, bytes | None]] = HEADERS


def member_of(number: int) -> UUID:
    return uuid5(MEMBER, str(number))


def up_to(event: type) -> list[CloudEvent]:
    """The story until this event has happened."""
    place = next(place for place, told in enumerate(STORY) if isinstance(told, event))
    return list(STORY[: place + 1])
