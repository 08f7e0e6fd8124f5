"""Taking held events later: when what they wait for has come, or when an operator replays a dead letter.

A queue is drained from its head under the member's lock, decoded again from the raw bytes, so that a fixed schema,
upcaster or handler applies. Effect, outbox and deletion of the row are one transaction. Because every consumer reads a
queue only after it holds the same lock, nothing can be added behind a queue that was just emptied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.arrivals import IDENTITY_CONFLICT, WAIT_MAX, WRONG_KEY, Fault
from shared.database import Connection
from shared.events.codec import Decoder, Undecodable, body_digest
from shared.events.envelope import CloudEvent
from shared.held_events import (
    LONG_QUEUE,
    WAITED_TOO_LONG,
    HeldEvent,
    load_awaited,
    load_queue,
    mark_held,
    release_held,
)
from shared.inbox import Late, Outcome, give_back, inbox_identity, record_outcomes, take_late
from shared.isolating import Isolated, ref_of, run_isolated
from shared.outbox import put_in_outbox
from shared.subscriptions import Subscription

QUEUE_PAGE = 1_000
"""Rows of one queue taken in one transaction: twice a consumer's chunk, so a queue shrinks faster than it grows."""
ROUNDS_MAX = 5
"""Taking one queue may bring what another waits for; this often at most in one transaction."""

Queue = tuple[UUID, str, str]
"""Member, consumer group, topic."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A subscription with the decoder of its topic."""

    subscription: Subscription
    decoder: Decoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What became of one held event. Gone from the table: applied, ignored, refused, duplicate. Still there: waiting,
    dead."""

    held_id: int
    outcome: Literal["applied", "ignored", "refused", "duplicate", "waiting", "dead"]
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class Drained:
    taken: int = 0
    published: int = 0
    stopped: Literal["empty", "dead", "waiting", "page"] = "empty"
    bug: str | None = None
    fates: list[Fate] = field(default_factory=list)
    """Of every event that was tried, in order."""


@dataclass(frozen=True, slots=True)
class _Item:
    row: HeldEvent
    event: CloudEvent
    identity: bytes
    """Of the event itself; the row has that of its place where the record was at fault when it came."""
    late: Late | None = None
    """How taking it under its own identity went; None where the inbox knows it by that already."""
    fault: Fault | None = None
    """What shows only now that it can be read, and no queue can mend."""


@dataclass(slots=True)
class _Readable:
    items: list[_Item] = field(default_factory=list)
    broken: tuple[HeldEvent, Undecodable] | None = None
    at_dead: bool = False


async def settle_waiting(
    connection: Connection,
    member_ids: Sequence[UUID],
    now: datetime,
    *,
    readers: Mapping[str, Reader],
    service: str,
    besides: Queue | None = None,
) -> int:
    """Try the queues of these members whose head waits; how many events that published. `besides` is a queue that
    somebody else takes. The caller holds the locks."""
    published = 0
    for _ in range(ROUNDS_MAX):
        taken = 0
        for queue in await load_awaited(connection, member_ids):
            member_id, group, _topic = queue
            if group in readers and queue != besides:
                drained = await drain_queue(connection, readers[group], member_id=member_id, service=service, now=now)
                taken += drained.taken
                published += drained.published
        if not taken:
            break
    return published


async def drain_queue(
    connection: Connection,
    reader: Reader,
    *,
    member_id: UUID,
    service: str,
    now: datetime,
    replay_head: bool = False,
    page: int | None = None,
    rest_at: datetime | None = None,
) -> Drained:
    """Take the events of one queue in order until it is empty, one must wait, or one is a dead letter. `replay_head`
    tries the head although it is a dead letter; one that only waited too long is always tried. At most a `page` of
    them: who then goes on is whoever looks after `rest_at`, at once if not given. The caller holds the member's lock.
    """
    subscription, page = reader.subscription, page or QUEUE_PAGE
    queue = await load_queue(
        connection, member_id=member_id, group=subscription.group, topic=subscription.topic, limit=page + 1
    )
    readable = await _read(connection, reader, queue[:page], replay_head)
    to_run = [item for item in readable.items if item.fault is None and item.late != "duplicate"]
    events = [item.event for item in to_run if subscription.wants(item.event)]
    isolated = await run_isolated(connection, subscription, events, service=service, now=now)
    drained = Drained()
    drained.published = await put_in_outbox(
        connection, isolated.outcomes.published, service=service, scope=subscription.group, now=now
    )
    stopped = await _Recording(connection, subscription, isolated, now, drained, replay_head).record(readable.items)
    if not stopped and readable.broken is not None:
        row, error = readable.broken
        await mark_held(connection, row.held_id, state="dead", reason=error.reason, detail=error.detail)
        await record_outcomes(connection, {row.identity: ("dead", error.reason)})
        drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason=error.reason, detail=error.detail))
        drained.stopped = "dead"
    elif not stopped and readable.at_dead:
        drained.stopped = "dead"
    elif not stopped and len(queue) > page:
        await _leave_rest(connection, queue[page], drained, rest_at or now)
    return drained


async def _leave_rest(connection: Connection, head: HeldEvent, drained: Drained, rest_at: datetime) -> None:
    """The rest of a long queue is for the next transaction (housekeeping.py). One behind a dead letter stays dead."""
    if head.state == "dead":
        drained.stopped = "dead"
        return
    # A head that waits, and has waited long enough at `rest_at`.
    await mark_held(
        connection, head.held_id, state="waiting", reason=LONG_QUEUE, detail=None, expires_at=rest_at, tried=False
    )
    await record_outcomes(connection, {head.identity: ("waiting", LONG_QUEUE)})
    drained.stopped = "page"


async def _read(connection: Connection, reader: Reader, queue: Sequence[HeldEvent], replay_head: bool) -> _Readable:
    """Decode from the head on, up to the first dead letter that is not to be replayed or that cannot be read."""
    readable = _Readable()
    for place, row in enumerate(queue):
        is_tried = place == 0 and (replay_head or row.reason == WAITED_TOO_LONG)
        if row.state == "dead" and not is_tried:
            readable.at_dead = True
            break
        try:
            event = reader.decoder.decode(row.value, row.headers)
        except Undecodable as error:
            readable.broken = (row, error)
            break
        identity = inbox_identity(reader.subscription.group, event.source, event.id)
        if event.subject != row.member_id:
            # It was queued by the record's key. Its own member is not locked here.
            readable.items.append(_Item(row, event, identity, fault=WRONG_KEY))
        elif row.identity == identity:
            readable.items.append(_Item(row, event, identity))
        else:
            # At fault when it came, the inbox knows its coordinates only; another copy may have been taken meanwhile.
            late = await take_late(connection, identity=identity, digest=body_digest(event))
            fault = IDENTITY_CONFLICT if late == "conflict" else None
            readable.items.append(_Item(row, event, identity, late, fault))
    return readable


@dataclass(slots=True)
class _Recording:
    """Writes how each event of a page ended."""

    connection: Connection
    subscription: Subscription
    isolated: Isolated
    now: datetime
    drained: Drained
    replay_head: bool
    outcomes: dict[bytes, tuple[Outcome, str | None]] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)

    async def record(self, items: Sequence[_Item]) -> bool:
        """Whether the queue stopped before the end of what was read."""
        kept: Sequence[_Item] = ()
        for place, item in enumerate(items):
            if item.fault is not None:
                await self._set_apart(item, item.fault)
            elif await self._stops(item):
                kept = items[place:]
                break
            else:
                self._release(item)
        await give_back(self.connection, [item.identity for item in kept if item.late == "taken"])
        await record_outcomes(self.connection, self.outcomes)
        await release_held(self.connection, self.released)
        self.drained.taken = len(self.released)
        return bool(kept)

    async def _stops(self, item: _Item) -> bool:
        """Whether the queue stops at this event, which then stays its head."""
        row, ref, drained = item.row, ref_of(item.event), self.drained
        if item.late == "duplicate":
            return False
        if ref in self.isolated.guilty:
            drained.bug = self.isolated.guilty[ref]
            await mark_held(self.connection, row.held_id, state="dead", reason="bug", detail=drained.bug)
            self.outcomes[row.identity] = ("dead", "bug")
            drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason="bug", detail=drained.bug))
            drained.stopped = "dead"
            return True
        needs = self.isolated.outcomes.waiting.get(ref)
        if needs is None:
            return False
        if row.reason == WAITED_TOO_LONG:
            drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason=WAITED_TOO_LONG, detail=needs))
            drained.stopped = "dead"  # as before: an operator knows of it already
            if self.replay_head:
                await mark_held(self.connection, row.held_id, state="dead", reason=row.reason, detail=row.detail)
            return True
        drained.fates.append(Fate(held_id=row.held_id, outcome="waiting", reason=needs))
        waits_already = row.expires_at is not None and row.reason != LONG_QUEUE
        expires_at = row.expires_at if waits_already else self.now + WAIT_MAX
        await mark_held(self.connection, row.held_id, state="waiting", reason=needs, detail=None, expires_at=expires_at)
        self.outcomes[row.identity] = ("waiting", needs)
        drained.stopped = "waiting"
        return True

    def _release(self, item: _Item) -> None:
        """Its effect is in this transaction, or it has none: the row goes, under every identity that it had."""
        refusal = self.isolated.outcomes.refused.get(ref_of(item.event))
        fate = Fate(held_id=item.row.held_id, outcome="applied")
        if item.late == "duplicate":
            fate = Fate(held_id=item.row.held_id, outcome="duplicate")
        elif refusal is not None:
            fate = Fate(held_id=item.row.held_id, outcome="refused", reason=refusal.reason)
        elif not self.subscription.wants(item.event):
            fate = Fate(held_id=item.row.held_id, outcome="ignored")
        if fate.outcome == "duplicate":
            self.outcomes[item.row.identity] = ("ignored", "duplicate")
        else:
            outcome: Outcome = fate.outcome
            self.outcomes[item.row.identity] = self.outcomes[item.identity] = (outcome, fate.reason)
        self.released.append(item.row.held_id)
        self.drained.fates.append(fate)

    async def _set_apart(self, item: _Item, fault: Fault) -> None:
        """Nobody can apply it in this queue: a dead letter alone, as when it comes so at first."""
        row = item.row
        await mark_held(
            self.connection,
            row.held_id,
            state="dead",
            reason=fault.reason,
            detail=fault.detail,
            blocks=False,
            member_id=item.event.subject,
        )
        self.outcomes[row.identity] = ("dead", fault.reason)
        self.drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason=fault.reason, detail=fault.detail))
