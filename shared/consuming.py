"""Chunks of one partition or of several, taken exactly once, in one transaction.

The order of the statements is the protocol (docs/delivery.md has the reason of each):
position locks, member locks -> inbox and queues -> handler (load, decide, save) -> what waited ->
what the handler left, outbox and positions.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.arrivals import IDENTITY_CONFLICT, KILLER, READ_LOOSELY, REJECTED, Arrival, identity_of_place, to_held
from shared.database import LOCK_TIMEOUT, Connection
from shared.held_events import HeldEvent, HeldState, hold_events
from shared.inbox import Findings, Outcome, give_back, record_outcomes, take_into_inbox, take_late
from shared.isolating import run_isolated
from shared.outbox import finish_events, inserting_rows, write_outcomes
from shared.outcomes import Answer, Outcomes, Ref, Write, ref_of
from shared.parking import Room, require_room
from shared.positions import Counts, advancing_positions, lock_positions, sum_counts
from shared.subscriptions import Subscription
from shared.writing import write, write_early


class SettleWaiting(Protocol):
    """Takes what waited for something that this transaction may have brought; how many events it published. `with_care`
    leaves it for later (shared/replaying.py)."""

    def __call__(
        self, connection: Connection, member_ids: Sequence[UUID], now: datetime, *, with_care: bool = False
    ) -> Awaitable[int]: ...


class PositionLost(Exception):
    """The partition has no position row, as where the database was replaced; or the chunk begins after the position: an
    earlier one failed, or the database was restored. Load and seek again."""


@dataclass(slots=True)
class Chunk:
    """Records of one partition. `base` is the end of the chunk before it, or the position sought."""

    partition: int
    base: int
    end: int
    arrivals: Sequence[Arrival]


@dataclass(slots=True)
class Taken:
    """What became of chunks that were taken together."""

    counts: Counts = field(default_factory=Counts)
    """Of all partitions together."""
    published: int = 0
    held_bytes: int = 0
    answer: Answer | None = ()
    """Of what its handler left to be written; None where that is not all that was written."""
    bugs: list[str] = field(default_factory=list)
    """Exceptions of events that became dead letters now, as one line each without member data."""


@dataclass(slots=True)
class _Sorted:
    """Records by what to do with them."""

    subscription: Subscription
    now: datetime
    counts: dict[int, Counts]
    """By partition."""
    to_run: list[Arrival] = field(default_factory=list)
    again: list[Arrival] = field(default_factory=list)
    """In a safety group: another body under an identity that was taken, or may be yet. Run alone, so that what follows
    from it has an identity of its own."""
    conflicts: list[Arrival] = field(default_factory=list)
    held: list[HeldEvent] = field(default_factory=list)
    outcomes: dict[bytes, tuple[Outcome, str | None]] = field(default_factory=dict)

    def count(self, arrival: Arrival) -> Counts:
        """The counts of this record's partition."""
        return self.counts[arrival.record.partition]

    def hold(self, arrival: Arrival, state: HeldState, reason: str, detail: str | None, *, blocks: bool) -> None:
        self.held.append(to_held(arrival, state=state, reason=reason, detail=detail, blocks=blocks, now=self.now))
        self.outcomes[arrival.identity] = (state, reason)
        counts = self.count(arrival)
        setattr(counts, state, getattr(counts, state) + 1)


async def take_chunks(
    connection: Connection,
    subscription: Subscription,
    chunks: Sequence[Chunk],
    *,
    service: str,
    now: Callable[[], datetime],
    settle_waiting: SettleWaiting,
    isolated: bool = False,
    room: Room | None = None,
    lock_timeout: str = LOCK_TIMEOUT,
) -> Taken:
    """Take chunks, each of another partition, inside the caller's transaction; `now` is asked once their members are
    locked. `isolated` after they failed with a bug: the guilty event is found and becomes a dead letter, its member is
    parked, the rest proceeds. Raises PositionLost, NoRoom, LateConflict, whatever the handler raises, and database
    errors; the caller rolls back and decides (shared/taking.py).
    """
    group, topic = subscription.group, subscription.topic
    partitions = [chunk.partition for chunk in chunks]
    # By their bytes, which know their hash, as UUIDs do not.
    keys = {key.raw: key.member_id for chunk in chunks for one in chunk.arrivals if (key := one.key) is not None}
    members = [] if subscription.stateless else list(keys.values())  # a red flag waits for nobody's lock or queue
    positions = await lock_positions(connection, group, topic, partitions, members=members, lock_timeout=lock_timeout)
    fresh = _fresh(chunks, positions)
    first = {arrival.identity: arrival for arrival in reversed(fresh)}
    at = now()  # whatever was decided about these members before is committed, and earlier
    inbox = await take_into_inbox(
        connection,
        group=group,
        topic=topic,
        identities=list(first),
        digests=[arrival.digest for arrival in first.values()],
        member_ids=members,
    )
    work = _Sorted(subscription, at, {partition: Counts() for partition in partitions})
    _sort_all(work, fresh, first, inbox)
    taken = Taken()
    left = await _run(connection, work, taken, isolated=isolated, service=service)
    more_follows = inbox.awaited or bool(work.conflicts or work.again)
    if more_follows:  # what they lead to comes behind
        left = await write_early(connection, left)
    # By their places: another body has their own identity.
    await take_late(connection, [(arrival.identity, arrival.identity) for arrival in work.conflicts])
    await _run_again(connection, work, taken, service=service)
    await record_outcomes(connection, work.outcomes)
    # A queue is in log order, whichever way each record came to be held.
    held = sorted(work.held, key=lambda event: (event.partition, event.record_offset))
    if room is not None and not subscription.stateless:
        taken.held_bytes = await require_room(connection, room, group=group, topic=topic, held=held)
    # Held under the identity of its place, and read once more since it can be read: it takes its own at a replay.
    await give_back(connection, await hold_events(connection, group=group, topic=topic, held=held))
    if inbox.awaited:
        taken.published += await settle_waiting(connection, members, at)
    advances = [(chunk.partition, chunk.end, work.counts[chunk.partition]) for chunk in chunks]
    answer = await write(connection, [*left, advancing_positions(group, topic, advances)])
    taken.answer = None if isolated or more_follows else answer
    taken.counts = sum_counts(work.counts.values())
    return taken


def _fresh(chunks: Sequence[Chunk], positions: Mapping[int, int]) -> list[Arrival]:
    """What lies at or beyond its partition's position."""
    fresh: list[Arrival] = []
    for chunk in chunks:
        next_offset = positions.get(chunk.partition)
        if next_offset is None:
            raise PositionLost("there is none")
        if chunk.base > next_offset:
            raise PositionLost("it lies before the chunk")
        fresh += [arrival for arrival in chunk.arrivals if arrival.record.offset >= next_offset]
    return fresh


def _sort_all(work: _Sorted, fresh: list[Arrival], first: Mapping[bytes, Arrival], inbox: Findings) -> None:
    """Where each record goes; `first` is the first one under each identity."""
    subscription = work.subscription
    blocked = set(inbox.blocked)
    # Nearly every chunk: there is nothing to sort.
    is_plain = not (inbox.known or blocked or subscription.events or len(first) < len(fresh))
    if is_plain and all(arrival.fault is None for arrival in fresh):
        work.to_run = fresh
        return
    for arrival in fresh:
        taken_before = inbox.known.get(arrival.identity)
        if taken_before is None and first[arrival.identity] is not arrival:
            taken_before = first[arrival.identity].digest
        _sort(work, arrival, taken_before, blocked)


def _sort(work: _Sorted, arrival: Arrival, taken_before: bytes | None, blocked: set[UUID]) -> None:
    """Decide where one record goes before any handler sees it. Inbox before diversion: `taken_before` is the digest of
    the body that was taken under the same identity, if any was."""
    subscription = work.subscription
    if taken_before == arrival.digest:
        work.count(arrival).duplicate += 1
        return
    if taken_before is not None:
        # The inbox row is the first one's, and keeps its outcome.
        if not (subscription.stateless and arrival.fault is KILLER):
            arrival.fault = IDENTITY_CONFLICT
        arrival.identity = identity_of_place(arrival.record, group=subscription.group, topic=subscription.topic)
        work.conflicts.append(arrival)
    fault = arrival.fault
    if fault is not None and not (subscription.stateless and fault.is_harmless):
        blocks = fault.blocks and not subscription.stateless
        work.hold(arrival, "dead", fault.reason, fault.detail, blocks=blocks)
        if blocks and arrival.member_id is not None:
            blocked.add(arrival.member_id)
        return
    assert arrival.event is not None
    if not subscription.wants(arrival.event):
        work.count(arrival).new += 1
        work.outcomes[arrival.identity] = ("ignored", None)
    elif fault in (IDENTITY_CONFLICT, REJECTED, READ_LOOSELY):
        work.again.append(arrival)
    elif blocked and arrival.member_id in blocked:
        work.hold(arrival, "parked", "behind", None, blocks=True)
    else:
        work.to_run.append(arrival)


async def _run(
    connection: Connection, work: _Sorted, taken: Taken, *, isolated: bool, service: str
) -> Sequence[Write | None]:
    """Run the handler over what is to run and note how that ended; what is left to write, the events with it."""
    if not work.to_run:
        return []
    subscription, now = work.subscription, work.now
    events = [arrival.event for arrival in work.to_run if arrival.event is not None]
    guilty: Mapping[Ref, str] = {}
    if isolated:
        found = await run_isolated(connection, subscription, events, service=service, now=now)
        outcomes, guilty = found.outcomes, found.guilty
        taken.bugs += guilty.values()
    else:
        outcomes = await subscription.run(connection, events, now=now)
    _apply_outcomes(outcomes, guilty, work)
    told = finish_events(
        outcomes.published, service=service, scope=subscription.group, now=now, urgent=subscription.stateless
    )
    taken.published = len(told)
    return [*outcomes.writes, inserting_rows(told)]


async def _run_again(connection: Connection, work: _Sorted, taken: Taken, *, service: str) -> None:
    """Look for red flags in bodies whose identity another body has, one by one: rare, and never an order to keep."""
    subscription, now = work.subscription, work.now
    for arrival in work.again:
        assert arrival.event is not None
        isolated = await run_isolated(connection, subscription, [arrival.event], service=service, now=now)
        if isolated.guilty:
            (bug,) = isolated.guilty.values()
            work.hold(arrival, "dead", "bug", bug, blocks=False)
            taken.bugs.append(bug)
            continue
        scope = f"{subscription.group} {arrival.identity.hex()}"
        taken.published += await write_outcomes(
            connection, isolated.outcomes, service=service, scope=scope, now=now, urgent=subscription.stateless
        )
        work.count(arrival).new += 1


def _apply_outcomes(outcomes: Outcomes, guilty: Mapping[Ref, str], work: _Sorted) -> None:
    """Count and record how each event that was to run ended; hold those that made the handler raise, those that wait,
    and what comes behind either."""
    if not (guilty or outcomes.refused or outcomes.waiting):
        for partition, many in Counter(arrival.record.partition for arrival in work.to_run).items():
            work.counts[partition].new += many
        return
    blocks = not work.subscription.stateless
    if outcomes.waiting and not blocks:
        raise TypeError(f"{work.subscription.group} is stateless and may not wait")
    stopped: set[UUID] = set()
    for arrival in work.to_run:
        assert arrival.event is not None
        assert arrival.member_id is not None
        ref = ref_of(arrival.event)
        if arrival.member_id in stopped:
            work.hold(arrival, "parked", "behind", None, blocks=True)
        elif ref in guilty:
            if blocks:
                stopped.add(arrival.member_id)
            work.hold(arrival, "dead", "bug", guilty[ref], blocks=blocks)
        elif ref in outcomes.waiting:
            stopped.add(arrival.member_id)
            work.hold(arrival, "waiting", outcomes.waiting[ref], None, blocks=True)
        elif ref in outcomes.refused:
            work.count(arrival).refused += 1
            work.outcomes[arrival.identity] = ("refused", outcomes.refused[ref])
        else:
            work.count(arrival).new += 1
