"""Taking held events later: when what they wait for has come, or when an operator replays a dead letter.

A queue is drained from its head under the member's lock, decoded again from the raw bytes, so that a fixed schema,
upcaster or handler applies. Effect, outbox and deletion of the row are one transaction. Because every consumer reads a
queue only after it holds the same lock, nothing can be added behind a queue that was just emptied. The queues of many
members are drained together: as many statements as for one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    Awaited,
    HeldEvent,
    Mark,
    exchange_identities,
    load_awaited,
    load_queues,
    many_within,
    mark_held,
    release_held,
)
from shared.inbox import Late, Outcome, give_back, inbox_identity, record_outcomes, take_late
from shared.isolating import Isolated, how_it_ended, run_isolated
from shared.outbox import write_outcomes
from shared.outcomes import ref_of
from shared.subscriptions import Subscription

QUEUE_PAGE = 1_000
"""Rows of one queue taken in one transaction: twice a consumer's chunk, so a queue shrinks faster than it grows."""
PAGE_BYTES = 8 << 20
"""Of all queues that are taken in one transaction; of each at least one event. A thousand plain ones have a quarter."""
SHARE_MIN = 20
"""Where many queues are taken in one transaction they share a page, but each gets as many rows as this."""
ROUNDS_MAX = 5
"""Taking one queue may bring what another waits for; this often at most in one transaction."""

QueueKey = tuple[UUID, str, str]
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

    @property
    def is_held(self) -> bool:
        """Whether it is still there."""
        return self.outcome in ("waiting", "dead")


@dataclass(slots=True)
class Drained:
    fates: list[Fate] = field(default_factory=list)
    """Of every event that was tried, in order."""
    is_long: bool = False
    """Whether the rest of the queue is left for another transaction."""

    @property
    def taken(self) -> int:
        return sum(not fate.is_held for fate in self.fates)


@dataclass(slots=True)
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
class _Queue:
    """The head of one member's queue, as far as it could be read."""

    items: list[_Item] = field(default_factory=list)
    broken: tuple[HeldEvent, Undecodable] | None = None
    rest: HeldEvent | None = None
    """The head of what is left for another transaction."""
    drained: Drained = field(default_factory=Drained)


async def settle_waiting(
    connection: Connection,
    member_ids: Sequence[UUID],
    now: datetime,
    *,
    readers: Mapping[str, Reader],
    service: str,
    besides: QueueKey | None = None,
    with_care: bool = False,
) -> int:
    """Try the queues of these members whose head waits, a page of each at most; how many events that published.
    `besides` is a queue that somebody else takes. `with_care`, where processes die of what is done in the caller's
    transaction: it is left to who takes the rest of long queues, as what kills may be in there. The caller holds the
    locks."""
    if with_care:
        heads = await _load_ours(connection, member_ids, readers)
        await _leave_waiting(connection, [one for one in heads if one.queue != besides], now)
        return 0
    published, left = 0, {besides}
    for _ in range(ROUNDS_MAX):
        taken = 0
        waiting: dict[str, list[UUID]] = {}
        for queue, *_ in await _load_ours(connection, member_ids, readers):
            if queue not in left:
                waiting.setdefault(queue[1], []).append(queue[0])
        for group, members in waiting.items():
            page = max(SHARE_MIN, QUEUE_PAGE // len(members))
            queues, more = await drain_queues(connection, readers[group], members, service=service, now=now, page=page)
            taken += sum(drained.taken for drained in queues)
            published += more
            topic = readers[group].subscription.topic
            left |= {(m, group, topic) for m, one in zip(members, queues, strict=True) if one.is_long}
        if not taken:
            break
    return published


async def _load_ours(
    connection: Connection, member_ids: Sequence[UUID], readers: Mapping[str, Reader]
) -> list[Awaited]:
    """The heads that wait, but for those under a topic that their group read in another release: an operator's."""
    topics = {group: reader.subscription.topic for group, reader in readers.items()}
    return [one for one in await load_awaited(connection, member_ids) if topics.get(one.queue[1]) == one.queue[2]]


async def _leave_waiting(connection: Connection, heads: Sequence[Awaited], now: datetime) -> None:
    """As the rest of a long queue, to be taken at once. One that then waits on has its whole time to wait again, or is
    the dead letter that it was."""
    marks = [_for_later(one.held_id, now, WAITED_TOO_LONG if one.state == "dead" else None) for one in heads]
    await mark_held(connection, marks)


def _for_later(held_id: int, at: datetime, detail: str | None = None) -> Mark:
    """The rest of a queue, for another transaction (housekeeping.py): a head that waits, and has waited long enough
    at this time."""
    return Mark(held_id, "waiting", LONG_QUEUE, detail, expires_at=at, tried=False)


async def drain_queues(
    connection: Connection,
    reader: Reader,
    member_ids: Sequence[UUID],
    *,
    service: str,
    now: datetime,
    page: int = QUEUE_PAGE,
    replay_head: bool = False,
    rest_at: datetime | None = None,
) -> tuple[list[Drained], int]:
    """Take the events of these members' queues in order, each until it is empty, one must wait, or one is a dead
    letter; what became of each queue, and how many events that published. `replay_head` tries a head although it is a
    dead letter; one that only waited too long is always tried. At most a `page` of each: who then goes on is whoever
    looks after `rest_at`, at once if not given. The caller holds the members' locks."""
    subscription = reader.subscription
    size = PAGE_BYTES // len(member_ids)
    rows = await load_queues(
        connection, member_ids=member_ids, group=subscription.group, topic=subscription.topic, limit=page + 1, size=size
    )
    queues = [_read(reader, held, min(page, many_within(size, held)), replay_head) for held in rows.values()]
    await _take_late(connection, queues, subscription)
    items = [item for queue in queues for item in queue.items]
    to_run = [item.event for item in items if item.fault is None and item.late != "duplicate"]
    isolated = await run_isolated(connection, subscription, to_run, service=service, now=now)
    published = await write_outcomes(connection, isolated.outcomes, service=service, scope=subscription.group, now=now)
    recording = _Recording(subscription, isolated, now, replay_head, rest_at or now)
    for queue in queues:
        recording.note(queue)
    await recording.write(connection)
    return [queue.drained for queue in queues], published


def _read(reader: Reader, rows: Sequence[HeldEvent], page: int, replay_head: bool) -> _Queue:
    """Decode from the head on, up to the first dead letter that is not to be replayed or that cannot be read."""
    queue = _Queue(rest=rows[page] if len(rows) > page else None)
    for place, row in enumerate(rows[:page]):
        is_tried = place == 0 and (replay_head or row.reason == WAITED_TOO_LONG)
        if row.state == "dead" and not is_tried:
            queue.rest = None
            break
        try:
            event = reader.decoder.decode(row.value, row.headers)
        except Undecodable as error:
            queue.broken = (row, error)
            break
        identity = inbox_identity(reader.subscription.group, event.source, event.id)
        # It was queued by the record's key. Its own member is not locked here.
        fault = WRONG_KEY if event.subject != row.member_id else None
        queue.items.append(_Item(row, event, identity, fault=fault))
    return queue


async def _take_late(connection: Connection, queues: Sequence[_Queue], subscription: Subscription) -> None:
    """At fault when they came, the inbox knows their coordinates only; other copies may have been taken meanwhile."""
    late = [
        item for queue in queues for item in queue.items if item.fault is None and item.row.identity != item.identity
    ]
    taken = await take_late(connection, [(item.identity, body_digest(item.event)) for item in late])
    first: dict[bytes, _Item] = {}
    for item, outcome in zip(late, taken, strict=True):
        item.late = outcome
        item.fault = IDENTITY_CONFLICT if outcome == "conflict" else None
        if outcome != "conflict":
            first.setdefault(item.identity, item)
    copied = [item for item in first.values() if item.late == "duplicate"]
    await _put_first(connection, queues, copied, subscription)


async def _put_first(
    connection: Connection, queues: Sequence[_Queue], copied: Sequence[_Item], subscription: Subscription
) -> None:
    """The copy that the inbox knows may itself be held, behind the first. They exchange their identities: the first
    takes effect at its place, and the one behind is the duplicate, in whatever transaction its turn comes."""
    exchanged = await exchange_identities(
        connection,
        [(item.row, item.identity) for item in copied],
        group=subscription.group,
        topic=subscription.topic,
    )

    def known(row: HeldEvent) -> HeldEvent:
        return replace(row, identity=exchanged.get(row.held_id, row.identity))

    for queue in queues if exchanged else ():
        for item in queue.items:
            if item.row.held_id in exchanged:
                item.row = known(item.row)
                item.late = None if item.row.identity == item.identity else "duplicate"
        queue.rest = queue.rest and known(queue.rest)
        if queue.broken is not None:
            queue.broken = (known(queue.broken[0]), queue.broken[1])


@dataclass(slots=True)
class _Recording:
    """Writes how each event of a page ended, of all queues at once."""

    subscription: Subscription
    isolated: Isolated
    now: datetime
    replay_head: bool
    rest_at: datetime
    outcomes: dict[bytes, tuple[Outcome, str | None]] = field(default_factory=dict)
    """Of those that are held no more, by identity."""
    released: list[int] = field(default_factory=list)
    given_back: list[bytes] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def note(self, queue: _Queue) -> None:
        """What became of this queue: of each event in order, up to where it stops."""
        drained = queue.drained
        for place, item in enumerate(queue.items):
            if item.fault is not None:
                self._condemn(item.row, item.fault.reason, item.fault.detail, drained, apart=item.event)
            elif self._stops(item, drained):
                self.given_back += [kept.identity for kept in queue.items[place:] if kept.late == "taken"]
                break
            else:
                self._release(item, drained)
        else:
            if queue.broken is not None:
                row, error = queue.broken
                self._condemn(row, error.reason, error.detail, drained)
            elif queue.rest is not None and queue.rest.state != "dead":
                self.marks.append(_for_later(queue.rest.held_id, self.rest_at))
                drained.is_long = True

    async def write(self, connection: Connection) -> None:
        await give_back(connection, self.given_back)
        await record_outcomes(connection, self.outcomes)
        await release_held(connection, self.released)
        await mark_held(connection, self.marks)

    def _stops(self, item: _Item, drained: Drained) -> bool:
        """Whether the queue stops at this event, which then stays its head."""
        row, ref = item.row, ref_of(item.event)
        if item.late == "duplicate":
            return False
        if ref in self.isolated.guilty:
            self._condemn(row, "bug", self.isolated.guilty[ref], drained)
            return True
        needs = self.isolated.outcomes.waiting.get(ref)
        if needs is None:
            return False
        if row.reason == WAITED_TOO_LONG and not self.replay_head:  # as before: an operator knows of it already
            drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason=WAITED_TOO_LONG, detail=needs))
            return True
        if WAITED_TOO_LONG in (row.reason, row.detail):
            self._condemn(row, WAITED_TOO_LONG, needs, drained)
            return True
        drained.fates.append(Fate(held_id=row.held_id, outcome="waiting", reason=needs))
        waits_already = row.expires_at is not None and row.reason != LONG_QUEUE
        expires_at = row.expires_at if waits_already else self.now + WAIT_MAX
        self.marks.append(Mark(held_id=row.held_id, state="waiting", reason=needs, expires_at=expires_at))
        return True

    def _condemn(
        self, row: HeldEvent, reason: str, detail: str, drained: Drained, *, apart: CloudEvent | None = None
    ) -> None:
        """It stays the head, as a dead letter. `apart`: one that nobody can apply in this queue is a dead letter alone,
        as when it comes so at first; the event as it can be read by now."""
        mark = Mark(held_id=row.held_id, state="dead", reason=reason, detail=detail)
        if apart is not None:
            mark = mark._replace(blocks=False, member_id=apart.subject, source=apart.source, event_id=apart.id)
        self.marks.append(mark)
        drained.fates.append(Fate(held_id=row.held_id, outcome="dead", reason=reason, detail=detail))

    def _release(self, item: _Item, drained: Drained) -> None:
        """Its effect is in this transaction, or it has none: the row goes, under every identity that it had."""
        row = item.row
        self.released.append(row.held_id)
        if item.late == "duplicate":
            drained.fates.append(Fate(held_id=row.held_id, outcome="duplicate"))
            self.outcomes[row.identity] = ("ignored", "duplicate")
            return
        outcome, reason = how_it_ended(item.event, self.subscription, self.isolated.outcomes)
        drained.fates.append(Fate(held_id=row.held_id, outcome=outcome, reason=reason))
        self.outcomes[row.identity] = self.outcomes[item.identity] = (outcome, reason)
