"""Consuming as a machine: owners of partitions, some of them zombies, beside whoever drains queues of held events.

Every stream may have two owners at any time, which contains every rebalance, every process that was stopped and wakes,
and every chunk that is delivered twice. A transaction is three steps: lock the position, lock the members and read,
commit. Crashes, commits of unknown outcome and lost connections come between any two of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.model.consuming_rules import Books, Queue, Row, Rules, Seen, Stream
from tests.model.consuming_verdicts import applicable, verdict
from tests.model.consuming_work import Chunk, Failed, Work

NO_ROW = -1


class Owner(NamedTuple):
    """A process that believes it owns a partition. `base` is the end of its last chunk, or the position it sought."""

    doing: str = "down"
    base: int = 0
    start: int = 0
    """The first record of its chunk that nobody took, when it locked the position."""
    end: int = 0
    isolated: bool = False
    cautious: bool = False
    condemned: bool = False
    stopped: bool = False
    seen: Seen | None = None
    rows: tuple[Row, ...] = ()


class Drainer(NamedTuple):
    """An operator who replays dead letters, or housekeeping. `idle`, `holds` a queue, or took `effect` alone."""

    doing: str = "idle"
    queue: Queue | None = None
    rows: tuple[Row, ...] = ()
    expires: bool = False


class Luck(NamedTuple):
    """How much may still go wrong."""

    crashes: int = 0
    unknowns: int = 0
    aborts: int = 0
    stops: int = 0
    restores: int = 0
    moves: int = 0


class State(NamedTuple):
    books: Books
    owners: tuple[Owner, ...]
    drainers: tuple[Drainer, ...]
    mended: bool
    luck: Luck
    backup: Books | None


Steps = Iterator[tuple[str, State]]


@dataclass(kw_only=True)
class Consuming:
    """The machine. `drainers` names their kinds: `operator` or `housekeeper`."""

    rules: Rules
    streams: Sequence[Stream]
    owners: Sequence[int]
    drainers: Sequence[str] = ()
    luck: Luck = field(default_factory=Luck)
    sizes: Sequence[int] = (1, 2)
    page: int = 9
    mends: bool = True
    expires: bool = False
    hands_over: bool = False
    """Whether partitions are handed over in order, with a chunk in hand."""
    may_stop: int | None = None
    """The only owner that may be stopped for ever; None: any."""
    wanted: frozenset[tuple[int, str]] | None = None
    """What must have taken effect at a good end, as (stream, event); None: all that can, and no queue is left."""

    def __post_init__(self) -> None:
        self._verdicts: dict[Books, str | None] = {}
        self._kills = any(record.kills for stream in self.streams for record in stream.records)
        self._applicable = applicable(self.streams)

    @property
    def start(self) -> State:
        count = len(self.streams)
        row = 0 if self.rules.position_row else NO_ROW
        stalled = (False,) * count if self._kills else ()
        books = Books((row,) * count, (0,) * count, frozenset(), (), (), frozenset(), stalled)
        owners = tuple(Owner() for _ in self.owners)
        return State(books, owners, tuple(Drainer() for _ in self.drainers), False, self.luck, None)

    def steps(self, state: State) -> Steps:
        for number in range(len(self.owners)):
            yield from self._owner_steps(state, number)
        for number, kind in enumerate(self.drainers):
            yield from self._drainer_steps(state, number, kind)
        yield from self._world_steps(state)

    def broken(self, state: State) -> str | None:
        books = state.books
        if books not in self._verdicts:
            moved = self.luck.moves > 0
            self._verdicts[books] = verdict(self.streams, books, moved=moved)
        return self._verdicts[books]

    def is_good_end(self, state: State) -> bool:
        books = state.books
        done = {(e.stream, self.streams[e.stream].records[e.offset].event) for e in books.effects}
        if self.wanted is not None:
            return self.wanted <= done
        stand = all(at == len(stream.records) for at, stream in zip(books.positions, self.streams, strict=True))
        return stand and all(row.state == "alone" for row in books.held) and self._applicable <= done

    # -- who holds what

    def _position_is_free(self, state: State, stream: int) -> bool:
        if state.books.positions[stream] == NO_ROW:
            return True
        return not any(
            owned == stream and owner.doing in ("begun", "read")
            for owned, owner in zip(self.owners, state.owners, strict=True)
        )

    def _members(self, state: State, number: int) -> set[str]:
        """Members that a chunk is about, as far as they can be seen."""
        stream, owner = self.streams[self.owners[number]], state.owners[number]
        records = stream.records[owner.start : owner.end]
        return {r.member if not r.key or r.readable or state.mended else r.key for r in records}

    def _locks(self, number: int) -> bool:
        return not (self.streams[self.owners[number]].is_safety and self.rules.safety_takes_no_lock)

    def _held_members(self, state: State) -> set[str]:
        held = {
            drainer.queue.member
            for drainer in state.drainers
            if drainer.queue is not None and self.rules.drain_locks_member
        }
        for number, owner in enumerate(state.owners):
            if owner.doing == "read" and self._locks(number):
                held |= self._members(state, number)
        return held

    # -- an owner

    def _owner_steps(self, state: State, number: int) -> Steps:
        owner, stream = state.owners[number], self.owners[number]
        name = f"owner {number + 1} of {self.streams[stream].group}"
        if owner.stopped:
            if self.rules.server_ends_idle:
                yield f"the server ends the transaction of {name}", _owned(state, number, Owner())
            return
        if owner.doing == "down":
            yield from self._assigned(state, number, name)
            return
        if state.luck.crashes:
            luck = state.luck._replace(crashes=state.luck.crashes - 1)
            yield f"{name} crashes", _owned(state._replace(luck=luck), number, Owner())
        if owner.doing == "idle":
            yield from self._idle(state, number, name)
            return
        if state.luck.stops and self.may_stop in (None, number):
            luck = state.luck._replace(stops=state.luck.stops - 1)
            yield f"{name} is stopped for ever", _owned(state._replace(luck=luck), number, owner._replace(stopped=True))
        if self.hands_over:
            yield f"{name} hands its partition over", _owned(self._given_up(state, number), number, Owner())
        if owner.doing == "begun":
            yield from self._begun(state, number, name)
        else:
            yield from self._read(state, number, name)

    def _assigned(self, state: State, number: int, name: str) -> Steps:
        stream, books = self.owners[number], state.books
        cautious = bool(books.stalled) and books.stalled[stream]
        if books.stalled:
            books = books._replace(stalled=tuple(at == stream or was for at, was in enumerate(books.stalled)))
        at = max(0, books.positions[stream])
        yield (
            f"{name} is assigned, seeks {at}",
            _owned(state._replace(books=books), number, Owner("idle", base=at, cautious=cautious)),
        )

    def _idle(self, state: State, number: int, name: str) -> Steps:
        owner, stream = state.owners[number], self.owners[number]
        stands, last = state.books.positions[stream], len(self.streams[stream].records)
        if self.rules.watched and owner.base == last and stands != last:
            yield (
                f"{name} sees that its position changed, seeks {stands}",
                _owned(state, number, Owner("idle", base=max(0, stands))),
            )
        if not self._position_is_free(state, stream):
            return
        if self.rules.base_checked and max(0, stands) < owner.base < last:
            yield (
                f"{name} finds position {stands} before its chunk, seeks it",
                _owned(state, number, Owner("idle", base=stands)),
            )
            return
        if owner.cautious and self.rules.attempts_counted and owner.base < last:
            place = (stream, owner.base)
            condemned = place in state.books.attempts
            books = state.books._replace(attempts=state.books.attempts | {place})
            start = min(owner.base + 1, max(owner.base, stands))
            noted = owner._replace(doing="begun", start=start, end=owner.base + 1, condemned=condemned)
            yield f"{name} notes an attempt and begins {owner.base}", _owned(state._replace(books=books), number, noted)
            return
        for size in self.sizes:
            end = owner.base + size
            if end <= last:
                start = min(end, max(owner.base, stands)) if self.rules.taken_dropped else owner.base
                begun = _owned(state, number, owner._replace(doing="begun", start=start, end=end))
                if not self.rules.queue_read_after_lock:
                    begun = _owned(begun, number, begun.owners[number]._replace(seen=self._look(begun, number)))
                yield f"{name} locks position {stands} for [{owner.base}, {end})", begun

    def _begun(self, state: State, number: int, name: str) -> Steps:
        if self._locks(number) and not self._members(state, number).isdisjoint(self._held_members(state)):
            return
        owner = state.owners[number]
        seen = owner.seen or self._look(state, number)
        drains = self.streams[self.owners[number]].is_safety and not self.rules.safety_never_drains
        rows = state.books.held if drains else ()
        yield (
            f"{name} locks its members and reads",
            _owned(state, number, owner._replace(doing="read", seen=seen, rows=rows)),
        )

    def _look(self, state: State, number: int) -> Seen:
        """The statement after the locks: inbox, queues, whether anybody waits."""
        stream, owner = self.streams[self.owners[number]], state.owners[number]
        work, members = self._work(state), self._members(state, number)
        offsets = range(owner.start, owner.end)
        identities = {name(self.owners[number], offset) for offset in offsets for name in (work.identity, work.place)}
        known = frozenset(pair for pair in state.books.inbox if pair[0] in identities)
        held = [row for row in state.books.held if self.rules.unreadable_parks or work.is_readable(work.record(row))]
        blocked = frozenset(m for m in members if work.queue(Queue(stream.group, m), held))
        awaited = self.rules.released_by_its_need and any(
            row.member in members and row.state in ("waiting", "expired", "more") for row in state.books.held
        )
        return Seen(known, blocked, awaited)

    def _read(self, state: State, number: int, name: str) -> Steps:
        owner, stream = state.owners[number], self.owners[number]
        assert owner.seen is not None
        offsets = range(owner.start, owner.end)
        chunk = Chunk(stream, offsets, owner.seen, owner.isolated, owner.condemned, owner.rows)
        taken = self._work(state).take(chunk)
        again = Owner("idle", base=owner.base, isolated=owner.isolated, cautious=owner.cautious)
        if isinstance(taken, Failed):
            given_up = self._given_up(state, number)
            if taken.why == "overtaken":
                yield f"{name} finds {taken.offset} taken meanwhile, tries again", _owned(given_up, number, again)
            elif taken.why == "killed":
                yield f"{name} is killed by {taken.offset}", _owned(state, number, Owner())
            else:
                isolated = again._replace(isolated=self.rules.bug_isolated)
                yield f"{name} rolls back, {taken.offset} raised", _owned(given_up, number, isolated)
            return
        committed, luck = state._replace(books=taken), state.luck
        what = f"[{owner.base}, {owner.end})"
        done = Owner("idle", base=owner.end, cautious=owner.cautious)
        yield f"{name} commits {what}", _owned(committed, number, done)
        if luck.unknowns:
            less = luck._replace(unknowns=luck.unknowns - 1)
            yield f"{name} commits {what} and never hears of it", _owned(committed._replace(luck=less), number, again)
        if luck.aborts:
            less = luck._replace(aborts=luck.aborts - 1)
            given_up = self._given_up(state._replace(luck=less), number)
            yield f"{name} loses its connection before the commit", _owned(given_up, number, again)

    def _given_up(self, state: State, number: int) -> State:
        """Its process lives, and takes back the attempt that it wrote down."""
        owner = state.owners[number]
        if not (owner.cautious and self.rules.attempts_taken_back) or owner.condemned:
            return state
        attempts = state.books.attempts - {(self.owners[number], owner.base)}
        return state._replace(books=state.books._replace(attempts=attempts))

    def _work(self, state: State) -> Work:
        return Work(self.rules, self.streams, self.page, state.books, mended=state.mended)

    # -- whoever drains queues

    def _drainer_steps(self, state: State, number: int, kind: str) -> Steps:
        drainer = state.drainers[number]
        name = f"{kind} {number + 1}"
        if drainer.queue is None:
            yield from self._drain_begins(state, number, kind, name)
            return
        yield f"{name} gives up", _drained(state, number, Drainer())
        work, rows = self._work(state), list(drainer.rows)
        if drainer.doing == "took effect":
            for row in rows:
                work.release(row)
            yield f"{name} deletes what it took", _drained(state._replace(books=work.result()), number, Drainer())
            return
        work.drain(rows, replay=kind == "operator", expires=drainer.expires)
        books = work.result()
        if self.rules.drain_in_one_transaction:
            yield f"{name} commits", _drained(state._replace(books=books), number, Drainer())
            return
        gone = tuple(row for row in rows if all(row[:2] != left[:2] for left in books.held))
        halfway = state._replace(books=books._replace(held=state.books.held))
        yield (
            f"{name} commits effects alone",
            _drained(halfway, number, drainer._replace(doing="took effect", rows=gone)),
        )

    def _drain_begins(self, state: State, number: int, kind: str, name: str) -> Steps:
        work = self._work(state)
        locked = self._held_members(state) if self.rules.drain_locks_member else set()
        for queue in sorted({Queue(self.streams[r.stream].group, r.member) for r in state.books.held}):
            rows = tuple(work.queue(queue, state.books.held))
            if not rows or queue.member in locked:
                continue
            head = rows[0].state
            if kind == "operator" and head in ("dead", "expired") and (state.mended or not self.mends):
                yield f"{name} locks and loads {queue.member}", _drained(state, number, Drainer("holds", queue, rows))
            if kind == "housekeeper" and (head == "more" or (head == "waiting" and self.expires)):
                holding = Drainer("holds", queue, rows, expires=head == "waiting")
                yield f"{name} locks and loads {queue.member}", _drained(state, number, holding)

    # -- the world

    def _world_steps(self, state: State) -> Steps:
        luck = state.luck
        if self.mends and not state.mended and any(row.state in ("dead", "alone") for row in state.books.held):
            yield "the operator mends the code", state._replace(mended=True)
        if luck.restores and state.backup is None:
            yield "a backup is made", state._replace(backup=state.books)
        if luck.restores and state.backup not in (None, state.books):
            assert state.backup is not None
            yield (
                "the database is restored",
                state._replace(
                    books=state.backup,
                    luck=luck._replace(restores=luck.restores - 1),
                    owners=tuple(map(_cut_off, state.owners)),
                    drainers=tuple(Drainer() for _ in state.drainers),
                    backup=None,
                ),
            )
        if luck.moves:
            for stream, stands in enumerate(state.books.positions):
                if stands and self._position_is_free(state, stream):
                    moved = (*state.books.positions[:stream], 0, *state.books.positions[stream + 1 :])
                    yield (
                        "an operator moves the position to 0",
                        state._replace(
                            books=state.books._replace(positions=moved), luck=luck._replace(moves=luck.moves - 1)
                        ),
                    )


def _owned(state: State, number: int, owner: Owner) -> State:
    return state._replace(owners=(*state.owners[:number], owner, *state.owners[number + 1 :]))


def _drained(state: State, number: int, drainer: Drainer) -> State:
    return state._replace(drainers=(*state.drainers[:number], drainer, *state.drainers[number + 1 :]))


def _cut_off(owner: Owner) -> Owner:
    """An owner whose transaction, if it has one, is gone."""
    return owner if owner.doing == "down" else Owner("idle", base=owner.base, isolated=owner.isolated)
