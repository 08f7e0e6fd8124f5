"""One transaction of a service on its books: taking a chunk, draining a queue. Pure: books in, books out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.model.consuming_rules import (
    AWAITED,
    BLOCKING,
    PLACE_BODY,
    Books,
    Effect,
    Queue,
    Record,
    Row,
    Rules,
    Seen,
    Stream,
)

ROUNDS = 2
"""How often one transaction looks for queues that it may have released."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The transaction does not commit: a handler raised, the process was killed by an event, or another partition took
    the same identity while this transaction waited for it."""

    offset: int
    why: Literal["raised", "killed", "overtaken"] = "raised"


@dataclass(slots=True)
class Chunk:
    """What a consumer has in hand inside its transaction."""

    stream: int
    offsets: range
    seen: Seen
    isolated: bool = False
    condemned: bool = False
    """Its first record was begun too often."""
    rows: tuple[Row, ...] = ()
    """The held events as they were when it read, where it drains without a lock."""
    to_run: list[tuple[int, str]] = field(default_factory=list)
    parked: list[Row] = field(default_factory=list)


class Work:
    """Books in the hands of one transaction."""

    def __init__(self, rules: Rules, streams: Sequence[Stream], page: int, books: Books, *, mended: bool) -> None:
        self.rules, self.streams, self.page, self.books, self.mended = rules, streams, page, books, mended
        self.inbox = dict(books.inbox)
        self.held = list(books.held)
        self.effects = list(books.effects)

    def record(self, place: Row | Effect) -> Record:
        return self.streams[place.stream].records[place.offset]

    def identity(self, stream: int, offset: int) -> str:
        return f"{self.streams[stream].group} {self.streams[stream].records[offset].event}"

    def place(self, stream: int, offset: int) -> str:
        return f"{stream}@{offset}"

    def is_readable(self, record: Record) -> bool:
        return record.readable or self.mended

    def needs_more(self, record: Record) -> bool:
        return bool(record.needs) and all(self.record(effect).event != record.needs for effect in self.effects)

    def result(self) -> Books:
        inbox = frozenset(self.inbox.items())
        return self.books._replace(inbox=inbox, held=tuple(self.held), effects=tuple(self.effects))

    # -- taking a chunk

    def take(self, chunk: Chunk) -> Books | Failed:
        stream = self.streams[chunk.stream]
        failed = self._sort(chunk, stream) or self._run(chunk, stream)
        if failed is not None:
            return failed
        for row in sorted(chunk.parked, key=lambda row: row.offset) if self.rules.held_in_log_order else chunk.parked:
            self._hold(row)
        if chunk.seen.awaited and not (stream.is_safety and self.rules.safety_never_drains):
            self.settle({self._queue_member(stream.records[offset]) for offset in chunk.offsets}, rows=chunk.rows)
        return self._advanced(chunk)

    def _queue_member(self, record: Record) -> str:
        """Whose record this is as far as can be seen: an unreadable one is of its key's member."""
        return record.member if self.is_readable(record) or not record.key else record.key

    def _sort(self, chunk: Chunk, stream: Stream) -> Failed | None:
        rules = self.rules
        known, blocked = dict(chunk.seen.known), set(chunk.seen.blocked)
        for offset in chunk.offsets:
            record = stream.records[offset]
            member = self._queue_member(record)
            fault = self._fault(record, chunk, offset)
            identity, body = self._taken_as(record, chunk.stream, offset)
            if not rules.inbox_first and member in blocked:
                chunk.parked.append(Row(chunk.stream, offset, member, identity, "parked"))
                continue
            if rules.inbox:
                before = known.get(identity)
                if before == body or (before is not None and not rules.other_body_told):
                    continue
                if before is not None:
                    fault = "killer" if stream.is_safety and fault == "killer" else "conflict"
                    identity, body = self.place(chunk.stream, offset), PLACE_BODY
                if rules.late_conflict and identity not in known and dict(self.books.inbox).get(identity) is not None:
                    return Failed(offset, "overtaken")
                self.inbox[identity] = body
                if rules.copies_in_chunk:
                    known[identity] = body
            looked_at = stream.is_safety and rules.safety_looks_at_faults and fault in ("key", "conflict")
            if fault and not looked_at:
                blocks = not stream.is_safety and fault in ("killer", "unreadable")
                chunk.parked.append(Row(chunk.stream, offset, member, identity, "dead" if blocks else "alone"))
                blocked |= {member} if blocks and (fault == "killer" or rules.unreadable_parks) else set()
            elif member in blocked and not stream.is_safety:
                chunk.parked.append(Row(chunk.stream, offset, member, identity, "parked"))
            else:
                chunk.to_run.append((offset, identity))
        return None

    def _fault(self, record: Record, chunk: Chunk, offset: int) -> str:
        if not self.is_readable(record):
            return "unreadable"
        is_condemned = chunk.condemned and offset == chunk.offsets.start
        if record.key and not (is_condemned and self.streams[chunk.stream].is_safety and self.rules.killer_first):
            return "key"
        return "killer" if is_condemned else ""

    def _taken_as(self, record: Record, stream: int, offset: int) -> tuple[str, int]:
        if not self.is_readable(record) or (record.key and self.rules.fault_leaves_identity):
            return self.place(stream, offset), PLACE_BODY
        return self.identity(stream, offset), record.body

    def _run(self, chunk: Chunk, stream: Stream) -> Failed | None:
        """The handler: what it takes, what makes it raise, what must wait, and what comes behind."""
        rules, behind = self.rules, set[str]()
        goes_on = (stream.is_safety and rules.safety_goes_on) or not rules.rest_queues_behind
        for offset, identity in chunk.to_run:
            record = stream.records[offset]
            row = Row(chunk.stream, offset, record.member, identity, "parked")
            if record.member in behind:
                chunk.parked.append(row)
            elif record.kills and not self.mended:
                return Failed(offset, "killed")
            elif record.raises and not self.mended:
                if not chunk.isolated:
                    return Failed(offset)
                chunk.parked.append(row._replace(state="alone" if stream.is_safety else "dead"))
                behind |= set() if goes_on else {record.member}
                if not rules.inbox_outside_savepoint:
                    self.inbox.pop(identity, None)
            elif self.needs_more(record) and not stream.is_safety:
                chunk.parked.append(row._replace(state="waiting"))
                behind.add(record.member)
            else:
                self.effects.append(Effect(chunk.stream, offset))
        return None

    def _hold(self, row: Row) -> None:
        """A record is held once, by its place."""
        for older in self.held:
            if (older.stream, older.offset) == (row.stream, row.offset):
                if self.rules.reread_gives_back and older.identity != row.identity:
                    self.inbox.pop(row.identity, None)
                return
        self.held.append(row)

    def _advanced(self, chunk: Chunk) -> Books:
        at, end, old = chunk.stream, chunk.offsets.stop, self.books
        stands = max(old.positions[at], end) if self.rules.position_forward else end
        counted = old.counted[at] + len(chunk.offsets)
        stalled = (*old.stalled[:at], False, *old.stalled[at + 1 :]) if old.stalled else ()
        return self.result()._replace(
            positions=(*old.positions[:at], stands, *old.positions[at + 1 :]),
            counted=(*old.counted[:at], counted, *old.counted[at + 1 :]),
            stalled=stalled,
        )

    # -- draining a queue

    def queue(self, queue: Queue, rows: Iterable[Row]) -> list[Row]:
        return [
            row
            for row in rows
            if row.member == queue.member and self.streams[row.stream].group == queue.group and row.state in BLOCKING
        ]

    def settle(self, members: set[str], *, rows: tuple[Row, ...] = ()) -> None:
        """Try the queues of these members whose head waits."""
        for _ in range(ROUNDS):
            before = len(self.effects)
            for queue in sorted({Queue(self.streams[row.stream].group, row.member) for row in self.held}):
                found = self.queue(queue, rows or self.held)
                tried = AWAITED if self.rules.expired_head_tried else ("waiting", "more")
                if queue.member in members and found and found[0].state in tried:
                    self.drain(found)
            if len(self.effects) == before:
                return

    def drain(self, rows: list[Row], *, replay: bool = False, expires: bool = False) -> None:
        """Take a queue from its head until one must stay."""
        for place, row in enumerate(rows[: self.page]):
            if row.state in ("dead", "expired") and not (place == 0 and (replay or row.state == "expired")):
                return
            if not self._take_held(row, expires=expires):
                return
        if len(rows) > self.page and self.rules.next_head_marked:
            self._mark(rows[self.page], "more")

    def _take_held(self, row: Row, *, expires: bool) -> bool:
        """Take one held event; False where it stays and its queue stops."""
        rules, record = self.rules, self.record(row)
        if not self.is_readable(record):
            self._mark(row, "dead")
            return False
        if rules.drained_key_judged and record.key:
            self._mark(row, "alone")
            return True
        identity = self.identity(row.stream, row.offset)
        row = self._put_first(row, identity)
        late = row.identity != identity
        if (late and rules.late_identity_taken) or not rules.drain_trusts_inbox:
            if identity in self.inbox:
                other_body = late and rules.late_body_compared and self.inbox[identity] != record.body
                self._mark(row, "alone") if other_body else self.release(row)
                return True
            self.inbox[identity] = record.body
        state = self._stays(row, record, expires=expires)
        if state:
            if late and rules.late_identity_given_back:
                self.inbox.pop(identity, None)
            self._mark(row, state)
            return False
        self.effects.append(Effect(row.stream, row.offset))
        self.release(row)
        return True

    def _put_first(self, row: Row, identity: str) -> Row:
        """The row as it is now; before a copy behind it that has their identity, it takes that over."""
        places = [(other.stream, other.offset) for other in self.held]
        if (row.stream, row.offset) not in places:
            return row  # somebody else took it: it is drained without the lock
        place = places.index((row.stream, row.offset))
        row = self.held[place]
        for number, other in enumerate(self.held[place + 1 :], start=place + 1):
            is_copy = other.identity == identity and self.record(other).body == self.record(row).body
            if self.rules.late_copy_behind and row.identity != identity and is_copy:
                self.held[number] = other._replace(identity=row.identity)
                self.held[place] = row = row._replace(identity=identity)
        return row

    def _stays(self, row: Row, record: Record, *, expires: bool) -> str:
        """The state in which a held event stays; nothing where it takes effect."""
        if (record.raises or record.kills) and not self.mended:
            return "dead"
        if not self.needs_more(record):
            return ""
        return "expired" if expires or row.state == "expired" else "waiting"

    def release(self, row: Row) -> None:
        self.held = [other for other in self.held if (other.stream, other.offset) != (row.stream, row.offset)]

    def _mark(self, row: Row, state: str) -> None:
        self.held = [
            other._replace(state=state) if (other.stream, other.offset) == (row.stream, row.offset) else other
            for other in self.held
        ]
