"""What the oracle holds against a run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from shared.events.codec import encode
from shared.events.envelope import NAMESPACE, CloudEvent, Record, event_type
from shared.outcomes import Cause

Area = Literal[
    "log", "events", "order", "plans", "alerts", "reminders", "mail", "timeline", "held", "counts", "outbox", "timers",
    "books", "rest", "migrations", "visits", "enrolling", "messages", "logs",
]  # fmt: skip
"""rest: the services did not come to rest. logs: one of them says that something is wrong in it."""


@dataclass(frozen=True)
class Finding:
    area: Area
    text: str

    def __str__(self) -> str:
        return f"{self.area}: {self.text}"


@dataclass
class Findings:
    found: list[Finding] = field(default_factory=list)

    def add(self, area: Area, text: str) -> None:
        self.found.append(Finding(area, text))

    def same(self, area: Area, what: str, wanted: object, there: object) -> None:
        if wanted != there:
            self.add(area, f"{what}: expected {_short(wanted)}, found {_short(there)}")

    def same_all(self, area: Area, what: str, wanted: Iterable[object], there: Iterable[object]) -> None:
        """The same things as often, in whatever order."""
        missing, surplus = Counter(list(wanted)), Counter(list(there))
        missing, surplus = missing - surplus, surplus - missing
        for kind, several in (("missing", missing), ("invented or doubled", surplus)):
            if several:
                first = ", ".join(_short(one) for one in list(several)[:3])
                self.add(area, f"{what}: {several.total()} {kind}, such as {first}")


def _short(thing: object) -> str:
    text = str(thing)
    return text if len(text) <= 300 else f"{text[:300]} ..."


@dataclass(frozen=True)
class Derived:
    """An event that follows from accepted ones: all of it but the moment at which it was decided."""

    event: type[CloudEvent]
    id: str
    source: str
    subject: UUID
    data: Record
    cause: CloudEvent | Cause

    def at(self, time: datetime) -> CloudEvent:
        return self.event.model_validate(
            {
                "id": self.id, "source": self.source, "type": event_type(self.event), "time": time,
                "subject": self.subject, "correlationid": self.cause.chain, "causationid": self.cause.id,
                "causationsource": self.cause.source, "data": self.data,
            }
        )  # fmt: skip


def derive_id(text: str) -> str:
    return str(uuid5(NAMESPACE, text))


def body(event: CloudEvent) -> bytes:
    """What is compared: everything but the trace."""
    return encode(event.model_copy(update={"traceparent": None, "dataschema": None}))
