"""What each consumer group must have made of the records of a topic, by what they are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson

from shared.events import PainReported
from shared.events.envelope import CloudEvent, event_type
from tests.chaos.log import Record
from tests.chaos.stream import Kind, Publication

Fate = Literal["taken", "repeat", "dead", "parked", "ignored"]
FAULTS: Mapping[Kind, tuple[str, bool]] = {
    "malformed": ("malformed", True),
    "unknown-type": ("unknown-type", True),
    "invalid": ("invalid", True),
    "wrong-key": ("wrong-key", False),
    "no-key": ("wrong-key", False),
    "time-ahead": ("time-ahead", False),
    "too-old": ("too-old", False),
    "null-value": ("null-value", False),
    "oversized": ("oversized", False),
}
"""The reason of the dead letter, and whether its member waits behind it."""
UNREADABLE: frozenset[Kind] = frozenset(("malformed", "null-value", "oversized"))
"""All that a safety group makes a dead letter of."""
READ_LOOSELY: frozenset[Kind] = frozenset(("unknown-type", "invalid"))
"""In which it looks for red flags all the same, once."""
Kinds = Mapping[tuple[bytes | None, bytes | None], Kind]


@dataclass(frozen=True)
class Read:
    record: Record
    fate: Fate
    reason: str = ""


def kinds_of(stream: Iterable[Publication]) -> Kinds:
    """What was meant by a record, by its bytes; of a copy, what its original was meant as."""
    kinds: dict[tuple[bytes | None, bytes | None], Kind] = {}
    for one in stream:
        kinds.setdefault((one.key, one.value), one.kind)
    return kinds


def read_as(
    records: Sequence[Record],
    kinds: Kinds,
    *,
    wants: Callable[[CloudEvent], bool] = lambda _: True,
    is_safety: bool = False,
) -> list[Read]:
    """The fate of each record of a topic in a group, in log order."""
    taken: dict[tuple[str, str], tuple[object, ...]] = {}
    blocked, loose = set[UUID](), set[bytes | None]()
    reads: list[Read] = []
    for record in records:
        kind = kinds.get((record.key, record.value), "event")
        if kind in FAULTS:
            reason, blocks = FAULTS[kind]
            if kind in UNREADABLE or not is_safety:
                reads.append(Read(record, "dead", reason))
                if blocks and not is_safety:
                    assert record.key is not None
                    blocked.add(UUID(record.key.decode()))
            elif kind in READ_LOOSELY and record.value in loose:
                reads.append(Read(record, "repeat"))
            else:
                loose.add(record.value)
                reads.append(Read(record, "taken"))
            continue
        event = record.event
        assert event is not None, f"what was meant as {kind} cannot be read"
        content = (event.type, event.subject, event.data)
        before = taken.setdefault((event.source, event.id), content)
        if before is not content:
            if before == content:
                reads.append(Read(record, "repeat"))
            elif is_safety:
                reads.append(Read(record, "taken"))
            else:
                reads.append(Read(record, "dead", "identity-conflict"))
        elif not wants(event):
            reads.append(Read(record, "ignored"))
        elif event.subject in blocked and not is_safety:
            reads.append(Read(record, "parked", "behind"))
        else:
            reads.append(Read(record, "taken"))
    return reads


def meant_by(record: Record) -> PainReported:
    """The report that its app meant to tell by what is read loosely."""
    assert record.value is not None
    told = orjson.loads(record.value)
    meant = {**told, "type": event_type(PainReported), "data": {**told["data"], "score": 0}}
    return PainReported.model_validate_json(orjson.dumps(meant), extra="ignore")


def taken_events(reads: Iterable[Read]) -> list[CloudEvent]:
    return [read.record.event for read in reads if read.fate == "taken" and read.record.event is not None]
