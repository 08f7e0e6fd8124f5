"""The geometry of the pain chart: 12 weeks of readings as positions, with nothing drawn here. Pure.

Positions across are percent of the plot's width, so that the same picture fits every window without scaling its text;
positions down are pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final

WEEKS: Final = 12
SPAN: Final = timedelta(weeks=WEEKS)
HEIGHT: Final = 176
"""Pixels from score 10 to score 0."""
TOP: Final = 12
AXIS: Final = TOP + HEIGHT
BAND: Final = 1.0
"""Half the width of the usual-pain band, in points: within it a reading counts as usual."""
POINTS_MAX: Final = 600


@dataclass(frozen=True, kw_only=True)
class Reading:
    felt_at: datetime
    score: int
    context: str
    event_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A flare: from the spike that opened it until it settled (open while None)."""

    started_at: datetime
    settled_at: datetime | None
    score_max: int


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What is usual, from when it was told until the next one was."""

    told_at: datetime
    level: float


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float
    at: datetime
    score: int
    context: str
    spike: bool


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of the plot: x and width in percent, y and height in pixels."""

    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Week:
    x: float
    starts_at: datetime
    labelled: bool


@dataclass(frozen=True, kw_only=True)
class PainChart:
    points: tuple[Point, ...]
    """In order of time; what hover and the arrow keys step through."""
    line: tuple[tuple[Point, Point], ...]
    """Neighbouring readings during exercise, joined."""
    bands: tuple[Span, ...]
    """Usual pain plus and minus one point, over time."""
    flares: tuple[Span, ...]
    sessions: tuple[float, ...]
    weeks: tuple[Week, ...]
    starts_at: datetime
    ends_at: datetime
    usual: Usual | None
    """The latest."""


def y_of(score: float) -> float:
    """Pixels from the top; scores outside 0-10 stay on the edge."""
    return round(TOP + HEIGHT * (1 - min(max(score, 0.0), 10.0) / 10), 1)


def draw_pain_chart(
    *,
    readings: Sequence[Reading],
    sessions: Sequence[datetime],
    episodes: Sequence[Episode],
    spike_event_ids: frozenset[str],
    usual: Sequence[Usual],
    now: datetime,
    zone: tzinfo,
) -> PainChart:
    """Lay out what happened in the 12 weeks up to the end of today in the member's zone.

    `spike_event_ids` names the readings that a spike was found in; `usual` is in order of time.
    """
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    ends_at = today + timedelta(days=1)
    starts_at = ends_at - SPAN

    def x_of(moment: datetime) -> float:
        return round(100 * min(max((moment - starts_at) / SPAN, 0.0), 1.0), 3)

    shown = sorted((r for r in readings if starts_at <= r.felt_at <= ends_at), key=lambda r: r.felt_at)[-POINTS_MAX:]
    # A session tells several scores; the one that a spike is found in is that of the exercise.
    marked: dict[str, Reading] = {}
    for reading in shown:
        if reading.event_id in spike_event_ids and (
            reading.context == "during-exercise" or reading.event_id not in marked
        ):
            marked[reading.event_id] = reading
    points = tuple(
        Point(
            x=x_of(r.felt_at),
            y=y_of(r.score),
            at=r.felt_at,
            score=r.score,
            context=r.context,
            spike=r is marked.get(r.event_id),
        )
        for r in shown
    )
    exercise = [point for point in points if point.context == "during-exercise"]
    return PainChart(
        points=points,
        line=tuple(pairwise(exercise)),
        bands=tuple(_bands(usual=usual, starts_at=starts_at, ends_at=now, x_of=x_of)),
        flares=_flares(episodes=episodes, starts_at=starts_at, ends_at=ends_at, now=now, x_of=x_of),
        sessions=tuple(x_of(at) for at in sessions if starts_at <= at <= ends_at),
        weeks=tuple(
            Week(x=round(100 * n / WEEKS, 3), starts_at=starts_at + timedelta(weeks=n), labelled=n % 4 == 0)
            for n in range(WEEKS)
        ),
        starts_at=starts_at,
        ends_at=ends_at,
        usual=usual[-1] if usual else None,
    )


def _flares(
    *,
    episodes: Sequence[Episode],
    starts_at: datetime,
    ends_at: datetime,
    now: datetime,
    x_of: Callable[[datetime], float],
) -> tuple[Span, ...]:
    """One span an episode that reaches into the chart, wide enough to be seen."""
    return tuple(
        Span(
            x=x_of(e.started_at),
            width=max(round(x_of(e.settled_at or now) - x_of(e.started_at), 3), 0.6),
            y=TOP,
            height=HEIGHT,
        )
        for e in episodes
        if (e.settled_at or now) > starts_at and e.started_at < ends_at
    )


def _bands(
    *, usual: Sequence[Usual], starts_at: datetime, ends_at: datetime, x_of: Callable[[datetime], float]
) -> Iterator[Span]:
    """One span for each stretch of time in which the same was usual."""
    changes = [told for before, told in pairwise([None, *usual]) if told and (not before or before.level != told.level)]
    for told, until in zip(changes, [*(change.told_at for change in changes), ends_at][1:], strict=True):
        if until > starts_at:
            top, bottom = y_of(told.level + BAND), y_of(told.level - BAND)
            x = x_of(told.told_at)
            yield Span(x=x, width=round(x_of(until) - x, 3), y=top, height=round(bottom - top, 1))
