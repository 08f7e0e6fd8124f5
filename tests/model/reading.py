"""Reading as a machine: a client that fetches by itself, a lane that must take every record, a log that may change.

Between the client and the lane lies a batch that was fetched before whatever just happened: a seek, a truncation, a
restore. Taking a chunk is one step; the model of consuming shows what it is made of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol of reading, a flag a rule."""

    stored_sought: bool = True
    """A partition is read from the position in the database, not from the one that Kafka was told."""
    unsought_dropped: bool = True
    """What was polled before the position was sought is dropped."""
    gap_doubted: bool = True
    """A batch that begins after the lane's end is not accepted as it is."""
    gap_fetched_again: bool = True
    """A gap counts only when a fetch from the lane's end shows the same first record."""
    gap_asked_of_log: bool = True
    """... and the log still holds the lane's end; else retention passed the reader, and an operator decides."""
    gap_asked_after_fetch: bool = True
    """... as asked after that fetch, not before."""
    gap_accepted: bool = True
    """A gap that the log confirms is none: a transaction's marker takes an offset."""
    silence_watched: bool = True
    """A partition is looked at although no record of it comes."""


class Lane(NamedTuple):
    end: int
    taken: int
    waiting: tuple[int, ...] = ()
    doubted: int = -1
    confirmed: int = -1
    is_judged: bool = False
    """The log is being asked about a gap; the client is paused."""


class Client(NamedTuple):
    at: int
    batch: tuple[int, ...] = ()
    """Fetched, not yet handed over."""


class Luck(NamedTuple):
    restores: int = 0
    truncations: int = 0


class State(NamedTuple):
    first: int
    """Where the log begins."""
    stored: int
    took: frozenset[int]
    client: Client
    lane: Lane | None
    alarmed: bool
    luck: Luck


Steps = Iterator[tuple[str, State]]


@dataclass(kw_only=True)
class Reading:
    """The machine. `records` are the offsets that hold one; `end` is the end of the log."""

    rules: Rules
    records: Sequence[int]
    end: int
    told: int = 0
    """The position that Kafka was told, which may be ahead of a restored database."""
    luck: Luck = field(default_factory=Luck)

    @property
    def start(self) -> State:
        return State(0, 0, frozenset(), Client(self.told), None, False, self.luck)

    def steps(self, state: State) -> Steps:
        if not state.alarmed:
            yield from self._client_steps(state)
            yield from self._lane_steps(state)
        luck = state.luck
        if luck.truncations:
            for first in range(state.first + 1, self.end + 1):
                less = luck._replace(truncations=luck.truncations - 1)
                yield f"retention cuts the log to {first}", state._replace(first=first, luck=less)
        if luck.restores:
            for stored in range(state.stored):
                less = luck._replace(restores=luck.restores - 1)
                took = frozenset(offset for offset in state.took if offset < stored)
                yield f"the database is restored to {stored}", state._replace(stored=stored, took=took, luck=less)

    def broken(self, state: State) -> str | None:
        missing = [offset for offset in self.records if offset < state.stored and offset not in state.took]
        return f"skipped: {missing} below the position {state.stored}" if missing else None

    def is_good_end(self, state: State) -> bool:
        return state.alarmed or state.took == frozenset(self.records)

    # -- the client

    def _client_steps(self, state: State) -> Steps:
        client, lane = state.client, state.lane
        if client.batch:
            yield f"the client hands over {client.batch}", self._received(state)
        elif lane is None or not lane.is_judged:
            at = max(client.at, state.first)  # an offset that is gone is replaced by the earliest there is
            there = [offset for offset in self.records if offset >= at]
            for size in (1, 2):
                if len(there) >= size:
                    batch = tuple(there[:size])
                    yield f"the client fetches {batch}", state._replace(client=Client(batch[-1] + 1, batch))

    def _received(self, state: State) -> State:
        lane, batch, rules = state.lane, state.client.batch, self.rules
        after = state._replace(client=state.client._replace(batch=()))
        if lane is None:
            if rules.unsought_dropped:
                return after
            return after._replace(lane=Lane(batch[-1] + 1, state.stored, batch))
        fresh = tuple(offset for offset in batch if offset >= lane.end)
        if not fresh:
            return after
        if rules.gap_doubted and fresh[0] > lane.end and lane.confirmed != fresh[0]:
            if not rules.gap_fetched_again and state.first <= lane.end:
                return after._replace(lane=_accepted(lane, fresh))
            return after._replace(lane=lane._replace(doubted=fresh[0], is_judged=True))
        asks = rules.gap_asked_of_log and rules.gap_asked_after_fetch
        if asks and fresh[0] > lane.end and state.first > lane.end:
            return after._replace(lane=None)
        return after._replace(lane=_accepted(lane, fresh))

    # -- the lane

    def _lane_steps(self, state: State) -> Steps:
        lane, rules = state.lane, self.rules
        if lane is None:
            yield from self._opens(state)
            return
        if lane.is_judged:
            yield "the log is asked about a gap", self._judged(state, lane)
        if lane.waiting:
            if lane.taken > state.stored:
                yield "its chunk begins after the position", state._replace(lane=None)
            else:
                took = state.took | {offset for offset in lane.waiting if offset >= state.stored}
                done = lane._replace(taken=lane.end, waiting=())
                yield (
                    f"the lane takes up to {lane.end}",
                    state._replace(lane=done, took=took, stored=max(state.stored, lane.end)),
                )
        elif rules.silence_watched and (lane.taken != state.stored or lane.taken < state.first):
            yield "the partition is looked at and opened again", state._replace(lane=None)

    def _opens(self, state: State) -> Steps:
        at = state.stored if self.rules.stored_sought else max(state.stored, self.told)
        if at < state.first:
            yield f"position {at} is not in the log: alarm", state._replace(alarmed=True)
        else:
            client = state.client._replace(at=at)  # a batch that was fetched before is still under way
            yield f"the lane seeks {at}", state._replace(client=client, lane=Lane(at, at))

    def _judged(self, state: State, lane: Lane) -> State:
        if self.rules.gap_asked_of_log and state.first > lane.end:
            return state._replace(lane=None)
        confirmed = lane.doubted if self.rules.gap_accepted else -1
        sought = state.client._replace(at=lane.end)
        return state._replace(client=sought, lane=lane._replace(confirmed=confirmed, is_judged=False))


def _accepted(lane: Lane, fresh: tuple[int, ...]) -> Lane:
    return lane._replace(end=fresh[-1] + 1, waiting=lane.waiting + fresh, doubted=-1, confirmed=-1)
