"""What an operator does about held events: replay one with all that is parked behind it, or discard it.

Everything is decided under the same locks as when events are consumed, in the caller's transaction, which also writes
down who did it and why. A replay that fails again leaves its event where it was; only its count of replays has changed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from shared.arrivals import IDENTITY_CONFLICT, WAIT_MAX
from shared.database import Connection
from shared.events.codec import Reason, Undecodable, body_digest
from shared.events.envelope import CloudEvent
from shared.held_events import (
    WAITED_TOO_LONG,
    HeldEvent,
    HeldState,
    Mark,
    find_head,
    load_held,
    mark_held,
    release_held,
)
from shared.inbox import Late, Outcome, give_back, inbox_identity, record_outcomes, take_late
from shared.isolating import Isolated, how_it_ended, run_isolated
from shared.member_locks import lock_members
from shared.outbox import write_outcomes
from shared.outcomes import ref_of
from shared.replaying import QUEUE_PAGE, Drained, Fate, QueueKey, Reader, drain_queues, settle_waiting

RECORD = "insert into delivery.operations (done_by, action, reason, details) values ($1, $2, $3, $4::text::jsonb)"

GONE = "It is not here: it was replayed or discarded meanwhile, or never was."
NO_READER = "No handler of this service reads {group} any more: discard it."
BEHIND = "It stands behind {head} in its member's queue: replay or discard that one first."
MENDABLE = frozenset({*get_args(Reason), "bug"})
"""What is at fault with its readers: another version of them may find something else, or nothing."""
UNREADABLE = {
    "null-value": "It has no value, so nobody can ever apply it: discard it.",
    "oversized": "It is larger than any event may be, so nobody can ever apply it: discard it.",
}
STILL_UNREADABLE = "It still cannot be read: mend its contract and replay it then, or discard it."
CONFLICT = "Another body was taken under its identity, so it can never be applied: discard it."
CHANGED = "It changed at this very moment: look at it again."
PARKED = "It is parked behind {head} and takes effect after that one: replay or discard that one."


@dataclass(slots=True)
class Step:
    """What one transaction did about a held event."""

    held: HeldEvent | None = None
    """As it was before."""
    result: Literal["done", "gone", "kept"] = "done"
    """`kept`: it is still there, and `fates` or `answer` says why."""
    answer: str | None = None
    """One sentence for the operator, where there is something to say."""
    fates: list[Fate] = field(default_factory=list)
    published: int = 0
    rest: QueueKey | None = None
    """The queue whose next page is still to be taken, with `go_on`."""

    @property
    def taken(self) -> int:
        return sum(not fate.is_held for fate in self.fates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What a service reads with, at one moment of clinic time."""

    readers: Mapping[str, Reader]
    service: str
    now: datetime
    page: int = QUEUE_PAGE
    """Events of one queue taken in one transaction."""
    rest_at: datetime | None = None
    """When the running service goes on with a queue that was left in the middle; at once if not given."""

    def reader(self, row: HeldEvent) -> Reader | None:
        reader = self.readers.get(row.consumer_group)
        return reader if reader is not None and reader.subscription.topic == row.topic else None

    async def drain(
        self, connection: Connection, reader: Reader, member_id: UUID, *, replay_head: bool = False
    ) -> tuple[Drained, int]:
        """A page of one queue, and how many events that published. The caller holds the member's lock."""
        (drained,), published = await drain_queues(
            connection,
            reader,
            [member_id],
            service=self.service,
            now=self.now,
            replay_head=replay_head,
            page=self.page,
            rest_at=self.rest_at,
        )
        return drained, published

    async def settle_waiting(self, connection: Connection, member_id: UUID, *, besides: QueueKey | None = None) -> int:
        """Take what waited for something of this member; how many events that published. The caller holds the lock."""
        return await settle_waiting(
            connection, [member_id], self.now, readers=self.readers, service=self.service, besides=besides
        )


async def replay(connection: Connection, held_id: int, bench: Bench) -> Step:
    """Try a held event again from its raw bytes, and what is parked behind it, in order up to the next dead letter."""
    row = await load_held(connection, held_id)
    if row is None:
        return Step(result="gone", answer=GONE)
    reader = bench.reader(row)
    if reader is None:
        return Step(row, "kept", NO_READER.format(group=row.consumer_group))
    return await (_replay_queue if row.blocks else _replay_alone)(connection, row, reader, bench)


async def go_on(connection: Connection, queue: QueueKey, bench: Bench) -> Step:
    """Take the next page of a queue that a replay left in the middle."""
    member_id, group, _topic = queue
    await lock_members(connection, [member_id])
    drained, published = await bench.drain(connection, bench.readers[group], member_id)
    return await _settled(connection, Step(published=published), queue, drained, bench)


async def discard(connection: Connection, held_id: int, bench: Bench) -> Step:
    """Delete a held event for good; the inbox says so. Was it the head of a queue, the rest is taken in order."""
    seen = await load_held(connection, held_id)
    if seen is not None and seen.blocks and seen.member_id is not None:
        await lock_members(connection, [seen.member_id])
    row = await load_held(connection, held_id, lock=True)
    if seen is None or row is None:
        return Step(result="gone", answer=GONE)
    if row.blocks != seen.blocks:
        return Step(row, "kept", CHANGED)
    reader = bench.reader(row)
    head = await _head_of(connection, row)
    if row.state == "parked" and head != held_id and reader is not None:
        return Step(row, "kept", PARKED.format(head=head))
    await release_held(connection, [held_id])
    await record_outcomes(connection, {row.identity: ("discarded", row.reason)})
    if head != held_id or reader is None or row.member_id is None:
        return Step(row)
    step = await go_on(connection, (row.member_id, row.consumer_group, row.topic), bench)
    step.held = row
    return step


async def record_operation(connection: Connection, *, who: str, action: str, why: str, details: Any) -> None:
    """Write down what somebody does by hand, in the transaction that does it."""
    await connection.execute(RECORD, who, action, why, json.dumps(details, default=str))


def place_of(row: HeldEvent) -> dict[str, Any]:
    """A held event for the audit: where it lay and which it is, nothing of what it says."""
    return {
        "held_id": row.held_id,
        "group": row.consumer_group,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.record_offset,
        "identity": row.identity.hex(),
        "state": row.state,
        "held_for": row.reason,
        "replays": row.replays,
    }


async def _head_of(connection: Connection, row: HeldEvent) -> int | None:
    if not row.blocks or row.member_id is None:
        return None
    head = await find_head(connection, member_id=row.member_id, group=row.consumer_group, topic=row.topic)
    return None if head is None else head.held_id


async def _replay_queue(connection: Connection, seen: HeldEvent, reader: Reader, bench: Bench) -> Step:
    assert seen.member_id is not None  # the table says so of every row that blocks
    await lock_members(connection, [seen.member_id])
    row = await load_held(connection, seen.held_id, lock=True)
    if row is None:
        return Step(result="gone", answer=GONE)
    if not row.blocks:  # set apart meanwhile
        return await _replay_alone(connection, row, reader, bench)
    head = await _head_of(connection, row)
    if head != row.held_id:
        return Step(row, "kept", (PARKED if row.state == "parked" else BEHIND).format(head=head))
    drained, published = await bench.drain(connection, reader, seen.member_id, replay_head=True)
    step = Step(row, published=published)
    for fate in drained.fates:
        if fate.held_id == row.held_id and fate.is_held:
            step.result, step.answer = "kept", _advice(fate)
    return await _settled(connection, step, (seen.member_id, row.consumer_group, row.topic), drained, bench)


async def _settled(connection: Connection, step: Step, queue: QueueKey, drained: Drained, bench: Bench) -> Step:
    """What waited for what was taken now is taken in the same transaction."""
    step.fates += drained.fates
    step.rest = queue if drained.is_long else None
    if drained.taken:
        step.published += await bench.settle_waiting(connection, queue[0], besides=step.rest)
    return step


async def _replay_alone(connection: Connection, seen: HeldEvent, reader: Reader, bench: Bench) -> Step:
    """One that nothing queues behind: at fault when it came, or of a safety group. An operator may overrule its time
    and its key; then it is taken under its own identity, which was left free for it."""
    subscription = reader.subscription
    try:
        event = reader.decoder.decode(seen.value, seen.headers)
    except Undecodable as error:
        return await _keep_unreadable(connection, seen, error)
    if not subscription.stateless:
        await lock_members(connection, [event.subject])
    row = await load_held(connection, seen.held_id, lock=True)
    if row is None:
        return Step(result="gone", answer=GONE)
    if row.blocks != seen.blocks:
        return Step(row, "kept", CHANGED)
    if not subscription.stateless:
        head = await find_head(connection, member_id=event.subject, group=subscription.group, topic=subscription.topic)
        if head is not None:  # or it would overtake what is parked
            return Step(row, "kept", BEHIND.format(head=head.held_id))
    return await _Alone(connection, row, event, reader, bench).run()


async def _keep_unreadable(connection: Connection, seen: HeldEvent, error: Undecodable) -> Step:
    row = await load_held(connection, seen.held_id, lock=True)
    if row is None:
        return Step(result="gone", answer=GONE)
    reason = _still(row, error.reason)
    detail = error.detail if reason == error.reason else str(error)
    fate = Fate(held_id=row.held_id, outcome="dead", reason=reason, detail=detail)
    await mark_held(connection, [Mark(held_id=row.held_id, state="dead", reason=reason, detail=detail)])
    return Step(row, "kept", _advice(replace(fate, reason=error.reason)), [fate])


def _still(row: HeldEvent, found: str) -> str:
    """What one that stands alone is held for when it has failed again: what was at fault as it came still is, whatever
    is `found` beside it now. Only that another body took effect says more: nobody can ever apply it."""
    return found if row.reason in MENDABLE or found == IDENTITY_CONFLICT.reason else row.reason


def _advice(fate: Fate) -> str | None:
    """What to do about an event that stays; None where its reason and place in the code say all."""
    if fate.outcome == "waiting":
        return f"It waits for {fate.reason} and goes on by itself."
    if fate.reason == "bug":
        return None
    if fate.reason == WAITED_TOO_LONG:
        return f"It still needs {fate.detail}, and is tried again whenever its member has something new."
    if fate.reason == IDENTITY_CONFLICT.reason:
        return CONFLICT
    return UNREADABLE.get(fate.reason or "", STILL_UNREADABLE)


@dataclass(slots=True)
class _Alone:
    """Runs one event that stands in no queue. Its row, and its member where there is one to lock, are locked."""

    connection: Connection
    row: HeldEvent
    event: CloudEvent
    reader: Reader
    bench: Bench

    async def run(self) -> Step:
        subscription, row = self.reader.subscription, self.row
        identity = inbox_identity(subscription.group, self.event.source, self.event.id)
        late = await self._take(identity) if row.identity != identity else None
        if late == "duplicate":
            return await self._release("ignored", "duplicate", Fate(held_id=row.held_id, outcome="duplicate"))
        if late == "conflict" and not subscription.stateless:
            return await self._keep("dead", IDENTITY_CONFLICT.reason, IDENTITY_CONFLICT.detail)
        isolated = await run_isolated(
            self.connection, subscription, [self.event], service=self.bench.service, now=self.bench.now
        )
        ref = ref_of(self.event)
        if late == "taken" and (isolated.guilty or isolated.outcomes.waiting):
            await give_back(self.connection, [identity])
        if ref in isolated.guilty:
            return await self._keep("dead", "bug", isolated.guilty[ref])
        if ref in isolated.outcomes.waiting:
            return await self._keep("waiting", isolated.outcomes.waiting[ref], None)
        return await self._take_effect(isolated, None if late == "conflict" else identity)

    async def _take(self, identity: bytes) -> Late:
        (late,) = await take_late(self.connection, [(identity, body_digest(self.event))])
        if late == "taken" and self.row.reason == IDENTITY_CONFLICT.reason:
            # The inbox has forgotten the other body by now. It took effect all the same.
            await give_back(self.connection, [identity])
            return "conflict"
        return late

    async def _take_effect(self, isolated: Isolated, identity: bytes | None) -> Step:
        """`identity` is None where a safety group looks at a second body of one identity: what follows from it then has
        an identity of its own, as in consuming.py."""
        group, row = self.reader.subscription.group, self.row
        scope = group if identity is not None else f"{group} {row.identity.hex()}"
        published = await write_outcomes(
            self.connection,
            isolated.outcomes,
            service=self.bench.service,
            scope=scope,
            now=self.bench.now,
            urgent=self.reader.subscription.stateless,
        )
        outcome, reason = how_it_ended(self.event, self.reader.subscription, isolated.outcomes)
        fate = Fate(held_id=row.held_id, outcome=outcome, reason=reason)
        step = await self._release(outcome, reason, fate, identity)
        step.published = published
        if not self.reader.subscription.stateless:
            step.published += await self.bench.settle_waiting(self.connection, self.event.subject)
        return step

    async def _release(self, outcome: Outcome, reason: str | None, fate: Fate, identity: bytes | None = None) -> Step:
        identities = {self.row.identity, identity or self.row.identity}
        await record_outcomes(self.connection, dict.fromkeys(identities, (outcome, reason)))
        await release_held(self.connection, [self.row.held_id])
        return Step(self.row, fates=[fate])

    async def _keep(self, state: HeldState, found: str, detail: str | None) -> Step:
        """One that waits stands at the head of its member's queue from now on: nothing may overtake it."""
        row, waits = self.row, state == "waiting"
        reason = found if waits else _still(row, found)
        mark = Mark(
            held_id=row.held_id,
            state=state,
            reason=reason,
            detail=detail,
            expires_at=self.bench.now + WAIT_MAX if waits else None,
            blocks=True if waits else None,
            member_id=self.event.subject if waits else None,
            source=self.event.source,
            event_id=self.event.id,
        )
        await mark_held(self.connection, [mark])
        fate = Fate(held_id=row.held_id, outcome="waiting" if waits else "dead", reason=reason, detail=detail)
        return Step(row, "kept", _advice(replace(fate, reason=found)), [fate])
