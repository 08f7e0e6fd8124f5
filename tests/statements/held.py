"""What cannot be applied when it comes: what its chunk costs, and what it costs to take it later."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import ceil, log2
from typing import Any

from shared.clock import wall_now
from shared.database import Connection
from shared.dead_letters import Bench, Step, discard, replay
from shared.events import CloudEvent, MemberEnrolled, PainReported, SessionCompleted
from shared.outcomes import Outcomes
from shared.replaying import settle_waiting
from shared.subscriptions import EventHandler, Subscription
from tests.statements.chunks import Desk
from tests.statements.counting import Counted, transaction
from tests.statements.story import STORY, Told, tell, up_to

GROUP, SAFETY = "plans.activity", "plans.safety"
SESSION, PAIN = (next(event for event in STORY if isinstance(event, kind)) for kind in (SessionCompleted, PainReported))
ENROLLED = next(event for event in STORY if isinstance(event, MemberEnrolled))


class Bug(Exception):
    pass


class Tap:
    """A handler that raises at events of these members, until it is mended."""

    def __init__(self, run: EventHandler) -> None:
        self.run, self.guilty = run, set[Any]()

    async def __call__(self, connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        if any(event.subject in self.guilty for event in events):
            raise Bug
        return await self.run(connection, events, now=now)


def with_taps(subscriptions: Sequence[Subscription]) -> tuple[list[Subscription], dict[str, Tap]]:
    taps = {s.group: Tap(s.run) for s in subscriptions}
    return [replace(s, run=taps[s.group]) for s in subscriptions], taps


Way = Callable[[Desk, Tap, Sequence[int]], Awaitable[Counted]]


def told(event: CloudEvent, numbers: Sequence[int]) -> list[Told]:
    return [tell(event, number) for number in numbers]


def spoilt(event: CloudEvent, numbers: Sequence[int], old: bytes, new: bytes) -> list[Told]:
    return [replace(one, value=one.value.replace(old, new)) for one in told(event, numbers)]


async def repeats(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    await desk.live(up_to(SessionCompleted), numbers)
    return await _take(desk, told(SESSION, numbers), duplicate=len(numbers))


async def other_bodies(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    await desk.live(up_to(SessionCompleted), numbers)
    return await _take(desk, spoilt(SESSION, numbers, b'"pain_during":8', b'"pain_during":7'), dead=len(numbers))


async def unreadable(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    return await _take(
        desk, spoilt(SESSION, numbers, b"org.careloop.session", b"org.careloop.unheard"), dead=len(numbers)
    )


async def early(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    return await _take(desk, told(SESSION, numbers), waiting=len(numbers))


async def behind(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    await _take(desk, told(SESSION, numbers), waiting=len(numbers))
    return await _take(desk, told(PAIN, numbers), parked=len(numbers))


async def released(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    """The chunk of another group that brings what they need."""
    await _take(desk, told(SESSION, numbers), waiting=len(numbers))
    await _take(desk, told(PAIN, numbers), parked=len(numbers))
    taken, counted = await desk.take("plans.members", told(ENROLLED, numbers))
    assert taken.counts.new == len(numbers)
    assert await _held(desk) == 0
    return counted


async def settled_in_vain(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    """A command or a timer of members whose events still have nothing of what they need."""
    await _take(desk, told(SESSION, numbers), waiting=len(numbers))
    members = [one.member_id for one in told(SESSION, numbers)]
    async with transaction(desk.database) as (connection, counted):
        await settle_waiting(connection, members, SESSION.time, readers=desk.readers, service=desk.service)
    return counted


async def one_bug(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    """One guilty member among so many: the search halves them."""
    await desk.live(up_to(MemberEnrolled), numbers)
    events = told(SESSION, numbers)
    tap.guilty = {events[-1].member_id}
    taken, counted = await desk.take(GROUP, events, isolated=True)
    assert taken.counts.dead == 1, taken.counts
    assert taken.counts.new == len(numbers) - 1, taken.counts
    return counted


async def red_flag_told_twice(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    """Other bodies under known identities, in the group that looks for red flags: each is looked at by itself."""
    await desk.live(up_to(MemberEnrolled), numbers)
    await desk.take(SAFETY, told(PAIN, numbers))
    taken, counted = await desk.take(SAFETY, spoilt(PAIN, numbers, b'"score":8', b'"score":7'))
    assert taken.counts.new + taken.counts.dead == len(numbers), taken.counts
    return counted


async def _parked(desk: Desk, tap: Tap, numbers: Sequence[int]) -> int:
    """One member with a dead letter and so many events behind it; the id of the dead letter."""
    number = numbers[0]
    await desk.live(up_to(MemberEnrolled), [number])
    first = tell(SESSION, number)
    tap.guilty = {first.member_id}
    await desk.take(GROUP, [_renamed(first, place) for place in range(1 + len(numbers))], isolated=True)
    tap.guilty = set()
    held_id: int = await desk.database.fetchval("select min(held_id) from delivery.held_events")
    assert await _held(desk) == 1 + len(numbers)
    return held_id


def _renamed(one: Told, place: int) -> Told:
    """The same event under another identity."""
    own_id = one.value.partition(b'"id":"')[2].partition(b'"')[0]
    return replace(one, value=one.value.replace(own_id, own_id[:-4] + f"{place:04x}".encode(), 1))


async def replayed(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    held_id = await _parked(desk, tap, numbers)
    step, counted = await _operate(desk, partial(replay, held_id=held_id))
    assert step.taken == 1 + len(numbers)
    assert await _held(desk) == 0
    return counted


async def replayed_in_vain(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    held_id = await _parked(desk, tap, numbers)
    tap.guilty = {tell(SESSION, numbers[0]).member_id}
    step, counted = await _operate(desk, partial(replay, held_id=held_id))
    assert step.result == "kept"
    return counted


async def discarded(desk: Desk, tap: Tap, numbers: Sequence[int]) -> Counted:
    held_id = await _parked(desk, tap, numbers)
    step, counted = await _operate(desk, partial(discard, held_id=held_id))
    assert step.taken == len(numbers)
    return counted


async def _operate(desk: Desk, action: Callable[..., Awaitable[Step]]) -> tuple[Step, Counted]:
    bench = Bench(readers=desk.readers, service=desk.service, now=wall_now())
    async with transaction(desk.database) as (connection, counted):
        step = await action(connection, bench=bench)
    return step, counted


async def _take(desk: Desk, events: Sequence[Told], **became: int) -> Counted:
    taken, counted = await desk.take(GROUP, events)
    counts = {name: getattr(taken.counts, name) for name in became}
    assert counts == became, taken.counts
    return counted


async def _held(desk: Desk) -> int:
    count: int = await desk.database.fetchval("select count(*) from delivery.held_events where blocks")
    return count


CONSTANT: dict[str, Way] = {
    "a chunk of repeats": repeats,
    "a chunk of other bodies under known identities": other_bodies,
    "a chunk that nobody can read": unreadable,
    "a chunk whose members are not known yet: all wait": early,
    "a chunk of members who wait: all parked": behind,
    "the chunk that brings what these members wait for, two events of each": released,
    "what has nothing for those who wait": settled_in_vain,
    "a dead letter replayed, with so many in its queue": replayed,
    "a dead letter discarded, with so many in its queue": discarded,
}


@dataclass(frozen=True)
class Search:
    """A way that may cost more for more, and how much."""

    way: Way
    allowed: Callable[[int], int]


def by_halves(events: int) -> int:
    return 15 + 7 * ceil(log2(events))


def one_by_one(events: int) -> int:
    return 15 + 3 * events


SEARCHES: dict[str, Search] = {
    "a bug in one of so many members: by halves": Search(one_bug, by_halves),
    "a replay that fails again at its head, with so many behind it: by halves": Search(replayed_in_vain, by_halves),
    "second bodies of known identities where red flags are looked for: one by one": Search(
        red_flag_told_twice, one_by_one
    ),
}
