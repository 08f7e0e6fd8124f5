"""The simulated member of the examples, who cares for them, and how an example is made."""

from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID, uuid5

from shared.events import NAMESPACE, CloudEvent, Decision, EventRef, Record
from shared.events.catalogue import APPS, TOPIC_OF_TYPE
from shared.events.envelope import event_type
from shared.events.vocabulary import Practitioner

TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def example_id(name: str) -> UUID:
    return uuid5(NAMESPACE, f"example {name}")


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


MEMBER: Final = example_id("member")
PT: Final = Practitioner(practitioner_id=example_id("pt"), role="pt", name="Ines Duarte, PT, DPT")
COACH: Final = Practitioner(practitioner_id=example_id("coach"), role="coach", name="Malik Osei")
START: Final = date(2026, 9, 1)
SPIKE_DAY: Final = date(2026, 10, 7)
CHAIN: Final = str(example_id("chain"))


def example(event: type[CloudEvent], data: Record, *, at: datetime, because: CloudEvent | None = None) -> CloudEvent:
    publisher = TOPIC_OF_TYPE[event_type(event)].publisher
    return event(
        id=str(example_id(event.NAME)),
        source="urn:careloop:app:ios" if publisher == APPS else f"urn:careloop:{publisher}",
        time=at,
        subject=MEMBER,
        traceparent=TRACEPARENT,
        correlationid=(because.correlationid if because else None) or CHAIN,
        causationid=because.id if because else None,
        causationsource=because.source if because else None,
        data=data,
    )  # type: ignore[call-arg]  # `type` has its default in every concrete event


def decision(rule_id: str, reason: str, *evidence: CloudEvent) -> Decision:
    refs = tuple(EventRef(source=event.source, id=event.id) for event in evidence)
    return Decision(rule_id=rule_id, rule_version=1, reason=reason, evidence=refs)
