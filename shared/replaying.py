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

from shared.arrivals import WAIT_MAX
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
from shared.inbox import Outcome, inbox_identity, insert_late, record_outcomes
from shared.isolating import Isolated, ref_of, run_isolated
from shared.outbox import put_in_outbox
from shared.subscriptions import Subscription

QUEUE_PAGE = 1_000
"""Rows of one queue taken in one transaction: twice a consumer's chunk, so a queue shrinks faster than it grows."""
ROUNDS_MAX = 5
"""Taking one queue may bring what another waits for; this often at most in one transaction."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A subscription with the decoder of its topic."""

    subscription: Subscription
    decoder: Decoder


@dataclass(slots=True)
class Drained:
    taken: int = 0
    published: int = 0
    stopped: Literal["empty", "dead", "waiting", "page"] = "empty"
    bug: str | None = None


@dataclass(slots=True)
class _Readable:
    pairs: list[tuple[HeldEvent, CloudEvent]] = field(default_factory=list)
    repeated: list[HeldEvent] = field(default_factory=list)
    broken: tuple[HeldEvent, Undecodable] | None = None
    at_dead: bool = False


async def settle_waiting(
    connection: Connection, member_ids: Sequence[UUID], now: datetime, *, readers: Mapping[str, Reader], service: str
) -> int:
    """Try the queues of these members whose head waits; how many events that published. The caller holds the locks."""
    published = 0
    for _ in range(ROUNDS_MAX):
        taken = 0
        for member_id, group, _topic in await load_awaited(connection, member_ids):
            if group in readers:
                drained = await drain_queue(connection, readers[group], member_id=member_id, service=service, now=now)
                taken += drained.taken
                published += drained.published
        if not taken:
            break
    return published


async def drain_queue(
    connection: Connection, reader: Reader, *, member_id: UUID, service: str, now: datetime, replay_head: bool = False
) -> Drained:
    """Take the events of one queue in order until it is empty, one must wait, or one is a dead letter. `replay_head`
    tries the head although it is a dead letter; one that only waited too long is always tried. The caller holds the
    member's lock."""
    subscription = reader.subscription
    queue = await load_queue(
        connection, member_id=member_id, group=subscription.group, topic=subscription.topic, limit=QUEUE_PAGE + 1
    )
    readable = await _read(connection, reader, queue[:QUEUE_PAGE], replay_head)
    events = [event for _, event in readable.pairs if subscription.wants(event)]
    isolated = await run_isolated(connection, subscription, events, service=service, now=now)
    drained = Drained()
    drained.published = await put_in_outbox(
        connection, isolated.outcomes.published, service=service, scope=subscription.group, now=now
    )
    await release_held(connection, [row.held_id for row in readable.repeated])
    stopped = await _record(connection, readable, isolated, now, drained)
    if not stopped and readable.broken is not None:
        row, error = readable.broken
        await mark_held(connection, row.held_id, state="dead", reason=error.reason, detail=error.detail)
        await record_outcomes(connection, {row.identity: ("dead", error.reason)})
        drained.stopped = "dead"
    elif not stopped and readable.at_dead:
        drained.stopped = "dead"
    elif not stopped and len(queue) > QUEUE_PAGE:
        # A head that waits, and has waited long enough: the next transaction goes on from there (housekeeping.py).
        head = queue[QUEUE_PAGE]
        await mark_held(connection, head.held_id, state="waiting", reason=LONG_QUEUE, detail=None, expires_at=now)
        await record_outcomes(connection, {head.identity: ("waiting", LONG_QUEUE)})
        drained.stopped = "page"
    return drained


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
        # At fault when it came, the inbox knows its coordinates only; another copy may have been taken meanwhile.
        late = row.identity != identity
        if late and not await insert_late(connection, identity=identity, digest=body_digest(event)):
            readable.repeated.append(row)
            continue
        readable.pairs.append((row, event))
    return readable


async def _record(
    connection: Connection, readable: _Readable, isolated: Isolated, now: datetime, drained: Drained
) -> bool:
    """Write how each event ended; whether the queue stopped before the end of what was read."""
    outcomes: dict[bytes, tuple[Outcome, str | None]] = {}
    released: list[int] = []
    stopped = False
    for row, event in readable.pairs:
        ref = ref_of(event)
        if ref in isolated.guilty:
            drained.bug = isolated.guilty[ref]
            await mark_held(connection, row.held_id, state="dead", reason="bug", detail=drained.bug)
            outcomes[row.identity] = ("dead", "bug")
            drained.stopped, stopped = "dead", True
            break
        if ref in isolated.outcomes.waiting and row.reason == WAITED_TOO_LONG:
            drained.stopped, stopped = "dead", True  # as before: an operator knows of it already
            break
        if ref in isolated.outcomes.waiting:
            needs = isolated.outcomes.waiting[ref]
            waits_already = row.expires_at is not None and row.reason != LONG_QUEUE
            expires_at = row.expires_at if waits_already else now + WAIT_MAX
            await mark_held(connection, row.held_id, state="waiting", reason=needs, detail=None, expires_at=expires_at)
            outcomes[row.identity] = ("waiting", needs)
            drained.stopped, stopped = "waiting", True
            break
        refusal = isolated.outcomes.refused.get(ref)
        if refusal is not None:
            outcomes[row.identity] = ("refused", refusal.reason)
        else:
            outcomes[row.identity] = ("applied", None)
        released.append(row.held_id)
    await record_outcomes(connection, outcomes)
    await release_held(connection, released)
    drained.taken = len(released) + len(readable.repeated)
    return stopped
