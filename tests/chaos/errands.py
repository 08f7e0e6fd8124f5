"""What members and their care team set out to do over HTTP in a run. A pure function of the seed, the length and the
opening; which alert somebody finds in their queue is not."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.events.conversations import AlertOutcome
from shared.events.visits import VisitReason
from shared.events.vocabulary import PractitionerRole
from tests.chaos.people import Cast
from tests.chaos.wording import draw_text

PUT_OFF_H = (2, 8, 8, 70)
"""So long after the opening what was put off comes back: it may be over by then, in the evening, or not in the run."""
ZONE = ZoneInfo("America/New_York")
"""Of everybody, and so of the week that a practitioner has who has entered none."""
VISITS_PER_SECOND = ALERTS_PER_SECOND = MESSAGES_PER_SECOND = 0.5
TALKATIVE = 8
"""Members who write and are written to: few, so that there are answers."""
VISITS_MAX = 280
"""There are only so many slots."""
DAY_BEGINS, SLOTS_A_DAY, SLOT = time(9), 16, timedelta(minutes=30)
DAYS_AHEAD = range(2, 56)
TODAY_FROM, TODAYS = time(14), 5
"""Slots of the day of the opening: late enough for their reminders to be still to come, early enough to be over by the
evening, when nobody has documented them."""
TOMORROW_FROM, TOMORROWS = time(14), 4
"""Slots of which the reminder a day before comes in the evening."""
RACED = 0.2
Role = Literal["pt", "coach"]
Then = Literal["keep", "move", "cancel", "move and cancel", "leave"]
"""What becomes of what was held: booked and kept, moved, cancelled; or never booked."""
Action = Literal["continue", "step-back", "hold", "reviewed"]


@dataclass(frozen=True)
class VisitErrand:
    """Somebody holds a time, books it, and what they do about it then."""

    at_s: float
    number: int
    """Its key."""
    member_id: UUID
    role: Role
    """Whom the visit is with."""
    starts_at: datetime
    reason: VisitReason
    is_of_team: bool
    """The practitioner does it for the member."""
    then: Then
    moves_to: datetime | None
    """Where it is moved."""
    pause_s: float
    races: int | None = None
    """Number of the errand that wants the same time at the same moment."""
    documented: Action | None = None
    """Of a visit of the day itself: in the evening, when it counts as missed, it is completed so."""


@dataclass(frozen=True)
class AlertErrand:
    """A clinician looks at their queue, takes an alert on, says what came of it, gives it back, gives it away, or puts
    it off."""

    at_s: float
    number: int
    role: Role
    place: int
    """In the queue."""
    does: Literal["acknowledge", "resolve", "both", "undo", "hand over", "put off"]
    """`undo`: take it on and give it back at once. `put off`: take it on and put it off."""
    outcome: AlertOutcome
    to_role: PractitionerRole
    """To whom it is handed over."""
    back_at: datetime
    """Until when it is put off."""
    pause_s: float


@dataclass(frozen=True)
class MessageErrand:
    """A member writes to their care team, or one of the team to them."""

    at_s: float
    number: int
    """Its key."""
    member_id: UUID
    role: Role | None
    """Who of the team writes; None: the member."""
    is_doubled: bool
    """It is sent twice at once, as by an impatient app."""
    text: str


@dataclass(frozen=True)
class Errands:
    visits: tuple[VisitErrand, ...] = ()
    alerts: tuple[AlertErrand, ...] = ()
    messages: tuple[MessageErrand, ...] = ()


def draw_errands(seed: int, *, seconds: float, cast: Cast, opening: datetime) -> Errands:
    chance = random.Random(f"{seed} errands")
    return Errands(
        tuple(_draw_visits(chance, seconds, cast, opening)),
        tuple(_draw_alerts(chance, seconds, opening)),
        tuple(_draw_messages(random.Random(f"{seed} messages"), seconds, cast)),
    )


def _draw_visits(chance: random.Random, seconds: float, cast: Cast, opening: datetime) -> list[VisitErrand]:
    members = [person.member_id for person in cast.people if not person.comes_later]
    today, later = _slots(opening, (0,), TODAY_FROM, TODAYS), _far_slots(chance, opening)
    documented: list[Action | None] = [None, *get_args(Action)]
    chance.shuffle(documented)
    errands: list[VisitErrand] = []
    for number in range(min(VISITS_MAX, int(seconds * VISITS_PER_SECOND))):
        is_today = bool(today) and number % 3 == 0
        then: Then = "keep" if is_today else chance.choice(get_args(Then))
        roles: tuple[Role, ...] = ("pt", "pt", "coach") if is_today else get_args(Role)
        errand = VisitErrand(
            at_s=chance.uniform(0.02, 0.9) * seconds, number=number, member_id=chance.choice(members),
            role=chance.choice(roles), starts_at=today.pop() if is_today else next(later),
            reason=chance.choice(("follow-up", "other", "pt-review")), is_of_team=chance.random() < 0.3, then=then,
            moves_to=next(later) if "move" in then else None, pause_s=chance.choice((0.0, 0.3, 2.0)),
            documented=documented.pop() if is_today else None,
        )  # fmt: skip
        errands.append(errand)
    return sorted(_raced(chance, errands), key=lambda one: one.at_s)


def _raced(chance: random.Random, errands: list[VisitErrand]) -> list[VisitErrand]:
    """Some of them want what another wants, at the same moment."""
    by_number = {one.number: one for one in errands}
    for first, second in list(pairwise(errands))[::2]:
        if first.documented is None and first.member_id != second.member_id and chance.random() < RACED:
            wanted = {"at_s": first.at_s, "role": first.role, "starts_at": first.starts_at, "documented": None}
            by_number[first.number] = replace(first, races=second.number)
            by_number[second.number] = replace(second, races=first.number, **wanted)  # type: ignore[arg-type]
    return list(by_number.values())


def _slots(opening: datetime, days: tuple[int, ...], begins: time, count: int) -> list[datetime]:
    """Starts on these days after the opening, but for weekends."""
    dates = [opening.astimezone(ZONE).date() + timedelta(days=number) for number in days]
    firsts = [datetime.combine(day, begins, ZONE).astimezone(opening.tzinfo) for day in dates if day.isoweekday() < 6]
    return [first + place * SLOT for first in firsts for place in range(count)]


def _far_slots(chance: random.Random, opening: datetime) -> Iterator[datetime]:
    """Each once: nobody else wants it, unless they race for it."""
    slots = _slots(opening, tuple(DAYS_AHEAD), DAY_BEGINS, SLOTS_A_DAY)
    chance.shuffle(slots)
    tomorrow = _slots(opening, (1,), TOMORROW_FROM, TOMORROWS)
    yield from tomorrow
    yield from slots


def _draw_alerts(chance: random.Random, seconds: float, opening: datetime) -> list[AlertErrand]:
    errands = [
        AlertErrand(
            at_s=chance.uniform(0.2, 0.95) * seconds,
            number=number,
            role=chance.choice(get_args(Role)),
            place=chance.randint(0, 4),
            does=chance.choice(("acknowledge", "resolve", "both", "both", "undo", "hand over", "put off", "put off")),
            outcome=chance.choice(("reached-member", "plan-adjusted", "not-reached")),
            to_role=chance.choice(("pt", "coach", "coach", "oncall")),
            back_at=opening + timedelta(hours=chance.choice(PUT_OFF_H)),
            pause_s=chance.choice((0.0, 0.5, 2.0)),
        )
        for number in range(int(seconds * ALERTS_PER_SECOND))
    ]
    return sorted(errands, key=lambda one: one.at_s)


def _draw_messages(chance: random.Random, seconds: float, cast: Cast) -> list[MessageErrand]:
    members = [person.member_id for person in cast.people if not person.comes_later][:TALKATIVE]
    errands = [
        MessageErrand(
            at_s=chance.uniform(0.02, 0.95) * seconds,
            number=number,
            member_id=chance.choice(members),
            role=chance.choice((None, None, "pt", "coach")),
            is_doubled=chance.random() < 0.2,
            text=draw_text(chance),
        )
        for number in range(int(seconds * MESSAGES_PER_SECOND))
    ]
    return sorted(errands, key=lambda one: one.at_s)
