"""What is published in a run, and when. A pure function of the seed, the length and the opening."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import orjson

from shared.events import PainReported, SessionCompleted
from shared.events.activity import ExerciseResult, PainReportedData, SessionCompletedData
from shared.events.codec import encode
from shared.events.vocabulary import Exercise, Finding, PainContext
from tests.chaos.people import Cast, Person, draw_uuid, joining

ACTIVITY = "careloop.activity"
APP = "urn:chaos:app"
EXERCISES: tuple[Exercise, ...] = ("quad-stretch", "hamstring-stretch", "knee-extension", "mini-squat", "bridge")
FLAGS: tuple[tuple[Finding, ...], ...] = (("chest-pain-breathless",), ("recent-trauma", "age-55-plus"))
PER_SECOND, BURST, BURST_EVERY_S = 14.0, 120, 17.0
REPEATED = LATE = ALONE = 0.01
REPEATED_WAITING = 0.1
"""Of those whose events have to wait: there are few of them."""
SPIKES_PER_DAY, FLAGGED = 0.25, 0.012
CONTEXTS: tuple[PainContext, ...] = ("now", "average-24h", "next-morning")
BUG_SUFFIX = "-bug"
"""A victim's handler fails at an event whose id ends so, until it is mended (tests/chaos/victim.py)."""
Kind = Literal[
    "event", "repeat", "bug",
    "malformed", "unknown-type", "invalid",
    "wrong-key", "no-key", "time-ahead", "too-old", "identity-conflict", "null-value", "oversized",
]  # fmt: skip
BLOCKING: tuple[Kind, ...] = ("malformed", "unknown-type", "invalid")
"""A fixed reader could apply them, so their member waits behind them."""
ALONE_KINDS: tuple[Kind, ...] = (
    "wrong-key", "no-key", "time-ahead", "too-old", "identity-conflict", "null-value", "oversized",
)  # fmt: skip

Way = Literal["kafka", "post", "batch"]
"""How it comes into the log: produced, or posted to plans alone or with others."""
POSTS_EVERY = 3
"""One in so many people has an app that posts."""
MENDABLE: tuple[Kind, ...] = ("wrong-key", "no-key", "time-ahead", "too-old")


@dataclass(frozen=True)
class Publication:
    """One record. `at_s`: seconds after the stream begins; below 0 it is there before anything is hurt."""

    at_s: float
    topic: str
    key: bytes | None
    value: bytes | None
    kind: Kind = "event"
    way: Way = "kafka"


@dataclass
class _Writer:
    """The events of one person, in the order in which they happen."""

    person: Person
    chance: random.Random
    opening: datetime
    step: timedelta
    number: int = 0
    high: int = 0
    """Readings that are still to be high."""
    written: list[PainReported | SessionCompleted] = field(default_factory=list)

    def at(self) -> datetime:
        self.number += 1
        # Never on the day of the opening: its reminders are to come.
        return min(self.opening - timedelta(days=24) + self.number * self.step, self.opening - timedelta(days=1))

    def score(self) -> int:
        rises = self.chance.random() < SPIKES_PER_DAY * (self.step / timedelta(days=1))
        if rises and self.high == 0 and not self.person.comes_later:
            self.high = self.chance.choice((1, 1, 2, 3))
        if self.high:
            self.high -= 1
            return min(10, self.person.usual + self.chance.choice((3, 4, 5, 6)))
        # Usual pain falls with low readings, and two points above it are a spike.
        around = (0, 0, 0, 1) if self.person.comes_later else (-1, 0, 0, 1)
        return max(0, self.person.usual + self.chance.choice(around))

    def findings(self) -> tuple[Finding, ...]:
        flagged = not self.person.comes_later and self.chance.random() < FLAGGED
        return self.chance.choice(FLAGS) if flagged else ()

    def event(self, suffix: str = "") -> PainReported | SessionCompleted:
        made = self._session(suffix) if self.chance.random() < 0.6 else self.pain(suffix)
        self.written.append(made)
        return made

    def pain(self, suffix: str = "", **changed: Any) -> PainReported:
        context = self.chance.choice(CONTEXTS)
        findings = () if suffix else self.findings()
        data = PainReportedData(score=self.score(), context=context, findings=findings)
        values = {**self._envelope(suffix), "data": data, **changed}
        return PainReported(**values)

    def _session(self, suffix: str) -> SessionCompleted:
        chance, envelope = self.chance, self._envelope(suffix)
        results = tuple(
            ExerciseResult(
                exercise=exercise, step=chance.randint(0, 2), sets_prescribed=3, sets_done=chance.choice((2, 3, 3, 3)),
                last_set_reps=chance.randint(8, 15), rpe=chance.randint(3, 8),
            )
            for exercise in chance.sample(EXERCISES, 3)
        )  # fmt: skip
        data = SessionCompletedData(
            session_id=draw_uuid(chance), started_at=envelope["time"] - timedelta(minutes=20), duration_min=20,
            exercises=results, pain_during=self.score(), findings=self.findings(),
            pain_last_morning=chance.choice((None, self.person.usual, self.person.usual + 2)),
        )  # fmt: skip
        return SessionCompleted(**envelope, data=data)

    def _envelope(self, suffix: str) -> dict[str, Any]:
        at = self.at()
        return {
            "id": f"{self.person.index}-{self.number}{suffix}",
            "source": APP,
            "time": at,
            "subject": self.person.member_id,
        }


def draw_stream(seed: int, *, seconds: float, cast: Cast, opening: datetime) -> list[Publication]:
    """Everything that is published, in order of time."""
    chance = random.Random(f"{seed} stream")
    stream: list[Publication] = []
    times = _times(chance, seconds)
    writers = _writers(chance, cast, opening, len(times))
    joins = {person.member_id: chance.uniform(0.25, 0.7) * seconds for person in cast.of("late")}
    for person in cast.known:
        at = joins.get(person.member_id, -1.0)
        stream += [
            Publication(at, topic, str(e.subject).encode(), encode(e)) for topic, e in joining(person, cast, opening)
        ]
    troubles = {p.member_id: chance.uniform(0.2, 0.6) * seconds for p in cast.of("unreadable", "bug")}
    kinds = iter(BLOCKING)
    for at in times:
        writer = chance.choice(writers)
        trouble = troubles.get(writer.person.member_id)
        if trouble is not None and at >= trouble:
            del troubles[writer.person.member_id]
            stream += _trouble(writer, at, kinds)
            continue
        stream += _ordinary(writer, chance, at)
    # Whoever was not drawn in time has their trouble at the end.
    for writer in writers:
        if writer.person.member_id in troubles:
            stream += _trouble(writer, seconds, kinds)
    return _posted(seed, sorted(stream, key=lambda one: one.at_s), cast)


def _posts(person: Person) -> bool:
    return person.part in ("steady", "late", "walk-in") and person.index % POSTS_EVERY == 0


def _posted(seed: int, stream: list[Publication], cast: Cast) -> list[Publication]:
    """The same, some of it posted: as the bytes that the ingress makes of it."""
    chance, keys = random.Random(f"{seed} ways"), {str(p.member_id).encode() for p in cast.people if _posts(p)}
    ways: tuple[Way, ...] = ("post", "batch")
    return [
        replace(one, way=chance.choice(ways), value=orjson.dumps(orjson.loads(one.value)))
        if one.topic == ACTIVITY and one.key in keys and one.value is not None
        else one
        for one in stream
    ]


def _times(chance: random.Random, seconds: float) -> list[float]:
    """A steady trickle, and everybody at once now and then."""
    times = [chance.uniform(0, seconds) for _ in range(int(seconds * PER_SECOND))]
    bursts = [chance.uniform(0.1, 0.9) * seconds for _ in range(max(1, int(seconds / BURST_EVERY_S)))]
    return sorted(times + [at + chance.uniform(0, 0.4) for at in bursts for _ in range(BURST)])


def _writers(chance: random.Random, cast: Cast, opening: datetime, events: int) -> list[_Writer]:
    # For more events than one person is likely to get, so that few are pressed together at the end.
    step = timedelta(days=23) / (1.5 * events / len(cast.people) + 8)
    return [_Writer(one, chance, opening, step) for one in cast.people if one.part != "turned-away"]


def _ordinary(writer: _Writer, chance: random.Random, at: float) -> Iterator[Publication]:
    drawn, repeated = chance.random(), REPEATED if writer.person.part == "steady" else REPEATED_WAITING
    key = str(writer.person.member_id).encode()
    if writer.person.part == "steady" and drawn < ALONE and writer.written and not _posts(writer.person):
        yield from _alone(chance.choice(ALONE_KINDS), writer, chance, at)
    elif drawn < ALONE + repeated and writer.written:
        yield Publication(at, ACTIVITY, key, encode(chance.choice(writer.written[-5:])), "repeat")
    elif drawn < ALONE + repeated + LATE:
        earlier, later = writer.event(), writer.event()
        yield Publication(at, ACTIVITY, key, encode(later))
        yield Publication(at + 0.01, ACTIVITY, key, encode(earlier))
    else:
        yield Publication(at, ACTIVITY, key, encode(writer.event()))


def _trouble(writer: _Writer, at: float, kinds: Iterator[Kind]) -> Iterator[Publication]:
    """What can be read as JSON holds a red flag, and comes twice."""
    key = str(writer.person.member_id).encode()
    if writer.person.part == "bug":
        yield Publication(at, ACTIVITY, key, encode(writer.event(BUG_SUFFIX)), "bug")
        return
    kind, event = next(kinds), orjson.loads(encode(writer.pain("-poison")))
    if kind == "malformed":
        yield Publication(at, ACTIVITY, key, b'{"not": "an event"', kind)
        return
    event["data"]["findings"] = FLAGS[BLOCKING.index(kind) % len(FLAGS)]
    if kind == "unknown-type":
        event["type"] = "org.careloop.pain.forgotten.v9"
    else:
        event["data"]["score"] = 42
    for copy_at in (at, at + 0.02):
        yield Publication(copy_at, ACTIVITY, key, orjson.dumps(event), kind)


def _alone(kind: Kind, writer: _Writer, chance: random.Random, at: float) -> Iterator[Publication]:
    """What nobody could ever apply: it stops nobody else. Where only its key or time was wrong, it comes once more,
    published rightly under the same identity."""
    right = event = writer.pain(f"-{kind}")
    key: bytes | None = str(event.subject).encode()
    value: bytes | None = encode(event)
    match kind:
        case "wrong-key":
            key = str(UUID(int=chance.getrandbits(128), version=4)).encode()
        case "no-key":
            key = None
        case "time-ahead":
            value = encode(event.model_copy(update={"time": writer.opening + timedelta(days=3)}))
        case "too-old":
            value = encode(event.model_copy(update={"time": writer.opening - timedelta(days=40)}))
        case "identity-conflict":
            value = encode(event.model_copy(update={"id": chance.choice(writer.written).id}))
        case "null-value":
            value = None
        case "oversized":
            value = encode(event) + b" " * 70_000
    yield Publication(at, ACTIVITY, key, value, kind)
    if kind in MENDABLE:
        writer.written.append(right)
        yield Publication(at + 0.02, ACTIVITY, str(right.subject).encode(), encode(right))
