"""The causal chain as a picture: one lane a service, one box an event, one arrow a causation. Pure, in pixels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

LANES: Final = ("apps", "enrollment", "plans", "messaging", "notifications")
"""Top to bottom: the way most chains run."""
BOX_WIDTH: Final = 124
BOX_HEIGHT: Final = 44
GAP_X: Final = 36
LANE_HEIGHT: Final = 64
LABEL_WIDTH: Final = 124
BOXES_MAX: Final = 60
"""Boxes in one picture; of a longer chain the latest are drawn."""

Identity = tuple[str, str]
"""Source and id of an event."""


@dataclass(frozen=True, kw_only=True)
class ChainEvent:
    source: str
    event_id: str
    event_type: str
    service: str
    occurred_at: datetime
    summary: str
    caused_by: Identity | None = None

    @property
    def identity(self) -> Identity:
        return (self.source, self.event_id)


@dataclass(frozen=True, kw_only=True)
class Box:
    event: ChainEvent
    x: int
    y: int
    count: int = 1
    """More than one: so many alike that led to nothing further, drawn as one."""


@dataclass(frozen=True, kw_only=True)
class Arrow:
    path: str
    """SVG path data."""
    cause: Identity
    effect: Identity


@dataclass(frozen=True, kw_only=True)
class ChainPicture:
    lanes: tuple[tuple[str, int], ...]
    """Service and the top of its lane."""
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: int
    height: int
    left_out: int
    """Events that are not drawn one by one."""


def draw_chain(*, events: Sequence[ChainEvent]) -> ChainPicture:
    """Lay out a chain: an effect is always right of its cause, and no two boxes of a lane touch."""
    ordered = sorted(events, key=lambda event: (event.occurred_at, event.identity))
    folded = _fold(ordered)
    drawn = _causes_first(folded[-BOXES_MAX:])
    lanes = [lane for lane in LANES if any(_lane(event) == lane for event, _ in drawn)]
    tops = {lane: n * LANE_HEIGHT for n, lane in enumerate(lanes)}
    columns = _columns([event for event, _ in drawn])
    boxes = tuple(
        Box(
            event=event,
            x=LABEL_WIDTH + columns[event.identity] * (BOX_WIDTH + GAP_X),
            y=tops[_lane(event)] + (LANE_HEIGHT - BOX_HEIGHT) // 2,
            count=count,
        )
        for event, count in drawn
    )
    by_identity = {box.event.identity: box for box in boxes}
    return ChainPicture(
        lanes=tuple(tops.items()),
        boxes=boxes,
        arrows=tuple(
            _arrow(by_identity[box.event.caused_by], box)
            for box in boxes
            if box.event.caused_by and box.event.caused_by in by_identity
        ),
        width=LABEL_WIDTH + (max(columns.values(), default=0) + 1) * (BOX_WIDTH + GAP_X),
        height=len(lanes) * LANE_HEIGHT,
        left_out=len(events) - len(drawn),
    )


def _lane(event: ChainEvent) -> str:
    return event.service if event.service in LANES else "apps"


def _fold(ordered: Sequence[ChainEvent]) -> list[tuple[ChainEvent, int]]:
    """Events of one type with the same cause that caused nothing further become one, the latest, with their number."""
    causes = {event.caused_by for event in ordered if event.caused_by}
    alike: defaultdict[tuple[Identity, str], list[ChainEvent]] = defaultdict(list)
    for event in ordered:
        if event.caused_by and event.identity not in causes:
            alike[(event.caused_by, event.event_type)].append(event)
    last = {group[-1].identity: len(group) for group in alike.values()}
    skipped = {event.identity for group in alike.values() for event in group[:-1]}
    return [(event, last.get(event.identity, 1)) for event in ordered if event.identity not in skipped]


def _causes_first(drawn: Sequence[tuple[ChainEvent, int]]) -> list[tuple[ChainEvent, int]]:
    """In order of time, but never an effect before its cause: clocks of apps and services differ a little."""
    present: Mapping[Identity, tuple[ChainEvent, int]] = {entry[0].identity: entry for entry in drawn}
    placed: dict[Identity, tuple[ChainEvent, int]] = {}
    for entry in drawn:
        stack = [entry]
        seen: set[Identity] = set()
        while True:
            cause = stack[-1][0].caused_by
            if cause is None or cause not in present or cause in placed or cause in seen:
                break
            seen.add(cause)
            stack.append(present[cause])
        for ready in reversed(stack):
            placed.setdefault(ready[0].identity, ready)
    return list(placed.values())


def _columns(ordered: Sequence[ChainEvent]) -> dict[Identity, int]:
    columns: dict[Identity, int] = {}
    taken: defaultdict[str, int] = defaultdict(lambda: -1)
    for event in ordered:
        after_cause = columns.get(event.caused_by, -1) + 1 if event.caused_by else 0
        column = max(after_cause, taken[_lane(event)] + 1)
        columns[event.identity] = taken[_lane(event)] = column
    return columns


def _arrow(cause: Box, effect: Box) -> Arrow:
    x1, y1 = cause.x + BOX_WIDTH, cause.y + BOX_HEIGHT // 2
    x2, y2 = effect.x - 2, effect.y + BOX_HEIGHT // 2
    bend = max((x2 - x1) // 2, 14)
    path = (
        f"M{x1},{y1}H{x2}"
        if y1 == y2 and x2 - x1 <= GAP_X
        else f"M{x1},{y1}C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    )
    return Arrow(path=path, cause=cause.event.identity, effect=effect.event.identity)
