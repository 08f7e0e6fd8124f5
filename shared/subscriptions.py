"""What a service reacts to: which topic, which consumer group, which handler; and which timers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from shared.database import Connection
from shared.events.catalogue import TOPIC_OF
from shared.events.envelope import CloudEvent, EventRef, event_type
from shared.outcomes import Outcomes
from shared.panics import without_panics


class EventHandler(Protocol):
    """Takes the events of one chunk, in log order, many members at once: load all, fold each member's, save all."""

    def __call__(self, connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Awaitable[Outcomes]: ...


TimerHandler = Callable[..., Awaitable[Outcomes]]
"""async (connection, timers: Sequence[Timer], *, now) -> Outcomes. The timers are claimed: each that ran is deleted
afterwards, unless the handler has saved it anew."""


Patience = Callable[[bytes], bool]
"""Whether a record, as it lies in the log, may wait for company: cheap, never a judgement of what it is."""


Loosely: TypeAlias = Callable[[Mapping[str, Any], EventRef, UUID, datetime], CloudEvent | None]
"""Of the members of what is no valid event, its identity, whose it is and when it is read: an event that holds what is
to be judged of it, for its handler alone; None where there is nothing. Whatever the members are."""


def nothing(_value: bytes) -> bool:
    """Somebody may wait for what comes of any record."""
    return False


def everything(_value: bytes) -> bool:
    """Nobody waits for what comes of any record."""
    return True


def types_of(*events: type[CloudEvent]) -> Patience:
    """Records of these types, as we write them."""
    marks = [f'"type":"{event_type(event)}"'.encode() for event in events]
    return lambda value: any(mark in value for mark in marks)


def all_but(*events: type[CloudEvent], topic: str) -> Patience:
    """Everything of this topic may wait but these: what a safety group is there for."""
    return types_of(*(event for event in TOPIC_OF[topic].events if event not in events))


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """One consumer group on one topic, with one handler over the union of the events that it reacts to."""

    topic: str
    group: str
    run: EventHandler
    events: tuple[type[CloudEvent], ...] = ()
    """The types that reach the handler; others are taken as ignored. Empty: all of the topic."""
    stateless: bool = False
    """A safety group: takes no member lock, parks nothing per member, waits for nothing, and pages when it fails."""

    loosely: Loosely | None = None
    """Of a safety group: what it judges of a record that is no valid event."""

    patient: Patience = nothing
    """Which records may wait a moment for company while much comes (shared/gathering.py). What is not recognised is
    never kept waiting."""

    gather_ms: int = 30
    """How long a fetch waits for company while much comes. Less where somebody waits for what comes of it; a fetch
    costs the broker and this process more than what it brings. A safety group that is told of what may not wait, by a
    group of its topic that fetches more often, need not fetch often itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", without_panics(self.run))

    def wants(self, event: CloudEvent) -> bool:
        """Whether this event reaches the handler."""
        return not self.events or type(event) in self.events


@dataclass(frozen=True, kw_only=True)
class TimerSubscription:
    """Which handler runs timers of a kind."""

    kind: str
    run: TimerHandler

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", without_panics(self.run))
