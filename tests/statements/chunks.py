"""Chunks of every consumer group of every service: one event of a kind, 20 and 200 of them, and all kinds mixed."""

import importlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from shared.consuming import Chunk, Taken, take_chunks
from shared.database import Database
from shared.events import CloudEvent
from shared.events.catalogue import TOPIC_OF, TOPIC_OF_TYPE
from shared.events.codec import Decoder
from shared.parking import Room
from shared.positions import ensure_positions
from shared.replaying import Reader, settle_waiting
from shared.subscriptions import Subscription, TimerSubscription
from tests.statements.counting import Counted, transaction
from tests.statements.story import STORY, Log, Told, before, mixed, of_topic, tell

SIZES = (1, 20, 200)


def subscriptions_of(service: str) -> Sequence[Subscription]:
    found: Sequence[Subscription] = importlib.import_module(f"services.{service}.subscriptions").SUBSCRIPTIONS
    return found


def timers_of(service: str) -> Sequence[TimerSubscription]:
    found: Sequence[TimerSubscription] = importlib.import_module(f"services.{service}.subscriptions").TIMERS
    return found


@dataclass
class Desk:
    """A service's books without the broker around them: each group reads a log of its own."""

    service: str
    database: Database
    subscriptions: Sequence[Subscription]
    timers: Sequence[TimerSubscription] = ()
    readers: dict[str, Reader] = field(init=False)
    logs: dict[str, Log] = field(init=False)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.readers = {s.group: Reader(s, Decoder(TOPIC_OF[s.topic])) for s in self.subscriptions}
        self.logs = {group: Log(reader) for group, reader in self.readers.items()}

    async def open(self) -> None:
        async with self.database.acquire() as connection:
            for s in self.subscriptions:
                await ensure_positions(connection, s.group, s.topic, {0: 0})

    async def take(self, group: str, told: Sequence[Told], *, isolated: bool = False) -> tuple[Taken, Counted]:
        """A chunk of this group, and what it sent."""
        log, now = self.logs[group], max(one.event.time for one in told)
        base = log.end
        arrivals = log.append(told, now=now)
        async with transaction(self.database) as (connection, counted):
            taken = await take_chunks(
                connection,
                self.readers[group].subscription,
                [Chunk(0, base, log.end, arrivals)],
                service=self.service,
                now=lambda: now,
                settle_waiting=partial(settle_waiting, readers=self.readers, service=self.service),
                isolated=isolated,
                room=Room(events_max=10_000, bytes_max=1 << 30),
            )
        return taken, counted

    async def live(self, events: Sequence[CloudEvent], numbers: Sequence[int]) -> None:
        """These members live through these events, as far as this service hears of them."""
        for event in events:
            for group in self.groups_of(event):
                await self.take(group, [tell(event, number) for number in numbers])

    def groups_of(self, event: CloudEvent) -> list[str]:
        """Who reads the topic of this event."""
        topic = TOPIC_OF_TYPE[event.type].name
        return [group for group, reader in self.readers.items() if reader.subscription.topic == topic]

    def new_members(self, many: int) -> list[int]:
        return [next(self.numbers) for _ in range(many)]


OpenDesk = Callable[..., Awaitable[Desk]]


async def count_kinds(desk: Desk) -> dict[tuple[str, str], dict[int, Counted]]:
    """By group and event: what one, 20 and 200 events of this kind send, each of another member. All members go
    through the story side by side, so each event finds what it would find in life."""
    lives = {size: desk.new_members(size) for size in SIZES}
    counts: dict[tuple[str, str], dict[int, Counted]] = {}
    for event in STORY:
        for group in desk.groups_of(event):
            counts[group, event.NAME] = {}
            for size, numbers in lives.items():
                taken, counted = await desk.take(group, [tell(event, number) for number in numbers])
                assert taken.counts.new == size, f"{event.NAME} in {group}: {taken.counts}"
                counts[group, event.NAME][size] = counted
    return counts


async def count_mixed(desk: Desk, group: str) -> dict[int, Counted]:
    """What 20 and 200 events of all kinds of this group's topic send: many members, several events of each."""
    topic = desk.readers[group].subscription.topic
    counts: dict[int, Counted] = {}
    for size in SIZES[1:]:
        numbers = desk.new_members(size)
        await desk.live(before(topic), numbers)
        taken, counts[size] = await desk.take(group, mixed(of_topic(topic), size, iter(numbers)))
        assert taken.counts.new == size, f"{group}: {taken.counts}"
    return counts
