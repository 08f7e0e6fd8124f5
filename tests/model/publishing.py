"""Publishing as a machine: transactions that put rows in the outbox, and relays that know nothing of each other.

Two relays at once contain every take-over, every lease that ran out and every process that was stopped and wakes. The
log is judged by the first occurrence of each event, which is what an inbox lets through.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol of publishing, a flag a rule."""

    id_after_lock: bool = True
    """The outbox id is drawn after the member's lock was granted."""
    ids_ascend: bool = True
    """Ids come from one sequence, none kept ready by a session."""
    no_cursor: bool = True
    """Every round reads the oldest rows that are left, not those after the last id seen."""
    deleted_after_ack: bool = True
    batch_awaited: bool = True
    """A partition's next batch is sent only after the one before it was acknowledged."""
    member_stops: bool = True
    """After a refused record its member's later ones are not sent."""
    refused_not_read: bool = True
    """Rows of a member that backs off do not fill the reading of others."""
    stuck_place_not_read: bool = True
    """... nor do the rows of a partition that is still being sent, or that backs off: the others go on beside it."""
    too_old_refused: bool = True
    """The broker refuses records older than an inbox remembers."""
    row_deleted_by_content: bool = True
    """What is deleted is the row that was published, not whatever has its number now."""


class Row(NamedTuple):
    number: int
    """The outbox id."""
    writer: int


class Writer(NamedTuple):
    """A transaction that decides one event. `after`: whose commit its decision could see, of the same member."""

    doing: str = "idle"
    number: int = -1
    after: frozenset[int] = frozenset()


class Relay(NamedTuple):
    """A relay in a round. `flying`: batches that were given up and may still arrive."""

    todo: tuple[Row, ...] = ()
    acknowledged: frozenset[Row] = frozenset()
    failed: frozenset[int] = frozenset()
    """Partitions that failed in this round."""
    flying: tuple[tuple[Row, ...], ...] = ()
    members_off: frozenset[str] = frozenset()
    places_off: frozenset[int] = frozenset()
    cursor: int = -1


class Luck(NamedTuple):
    failures: int = 0
    crashes: int = 0
    restores: int = 0


class Database(NamedTuple):
    writers: tuple[Writer, ...]
    rows: tuple[Row, ...]
    next_number: int


class State(NamedTuple):
    database: Database
    relays: tuple[Relay, ...]
    log: tuple[int, ...]
    """Writers whose events arrived."""
    forgotten: frozenset[int]
    """Events whose inbox rows are past retention."""
    came_late: bool
    luck: Luck
    backup: Database | None


Steps = Iterator[tuple[str, State]]


@dataclass(kw_only=True)
class Publishing:
    """The machine. A writer is the member whose event it decides; a member is in the partition `places` names."""

    rules: Rules
    writers: Sequence[str]
    relays: int = 2
    luck: Luck = field(default_factory=Luck)
    batch: int = 2
    limit: int = 9
    places: Sequence[int] = ()
    refused: frozenset[str] = frozenset()
    """Members of whom Kafka refuses every record."""
    dead_places: frozenset[int] = frozenset()
    """Partitions that never answer."""
    forgets: bool = False
    wanted: frozenset[int] | None = None
    """Writers whose events must be in the log at a good end; None: all, and nothing is left."""

    @property
    def start(self) -> State:
        database = Database(tuple(Writer() for _ in self.writers), (), 0)
        relays = tuple(Relay() for _ in range(self.relays))
        return State(database, relays, (), frozenset(), False, self.luck, None)

    def place(self, row: Row) -> int:
        return self.places[row.writer] if self.places else 0

    def steps(self, state: State) -> Steps:
        for number in range(len(self.writers)):
            yield from self._writer_steps(state, number)
        for number in range(self.relays):
            yield from self._relay_steps(state, number)
        yield from self._world_steps(state)

    def broken(self, state: State) -> str | None:
        writers, rows = state.database.writers, {row.writer for row in state.database.rows}
        first: dict[int, int] = {}
        for place, event in enumerate(state.log):
            first.setdefault(event, place)
        for number, writer in enumerate(writers):
            if writer.doing == "done" and number not in rows and number not in first:
                return f"lost: event {number + 1} is neither in the outbox nor in the log"
            if number in first and not self.luck.restores:
                for earlier in writer.after:
                    if first.get(earlier, len(state.log)) > first[number]:
                        return f"order: event {number + 1} is in the log before {earlier + 1}, which it came after"
        return "once: an event arrives after the inbox has forgotten it" if state.came_late else None

    def is_good_end(self, state: State) -> bool:
        if self.wanted is not None:
            return self.wanted <= set(state.log)
        done = all(writer.doing == "done" for writer in state.database.writers)
        return done and not state.database.rows and set(state.log) == set(range(len(self.writers)))

    # -- who decides

    def _writer_steps(self, state: State, number: int) -> Steps:
        writer, database, name = state.database.writers[number], state.database, f"writer {number + 1}"
        drawn = database.next_number if self.rules.ids_ascend else 10 * (len(self.writers) - number)
        locks = self._may_lock(database, number)
        after = frozenset(
            other
            for other, one in enumerate(database.writers)
            if one.doing == "done" and self.writers[other] == self.writers[number]
        )
        if writer.doing == "idle" and not self.rules.id_after_lock:
            waiting = writer._replace(doing="drawn before", number=drawn)
            yield f"{name} draws {drawn}, then waits for its member", _wrote(state, number, waiting, draws=True)
        elif writer.doing == "drawn before" and locks:
            yield (
                f"{name} locks its member and decides",
                _wrote(state, number, writer._replace(doing="drawn", after=after)),
            )
        elif writer.doing == "idle" and locks:
            yield f"{name} locks its member and decides", _wrote(state, number, Writer("locked", after=after))
        elif writer.doing == "locked":
            yield (
                f"{name} draws {drawn}",
                _wrote(state, number, writer._replace(doing="drawn", number=drawn), draws=True),
            )
        elif writer.doing == "drawn":
            done = _wrote(state, number, writer._replace(doing="done"))
            rows = tuple(sorted((*database.rows, Row(writer.number, number))))
            yield f"{name} commits row {writer.number}", done._replace(database=done.database._replace(rows=rows))

    def _may_lock(self, database: Database, number: int) -> bool:
        return not any(
            other != number and one.doing in ("locked", "drawn") and self.writers[other] == self.writers[number]
            for other, one in enumerate(database.writers)
        )

    # -- a relay

    def _relay_steps(self, state: State, number: int) -> Steps:
        relay, name = state.relays[number], f"relay {number + 1}"
        for at, batch in enumerate(relay.flying):
            left = relay._replace(flying=relay.flying[:at] + relay.flying[at + 1 :])
            yield f"a late batch of {name} arrives", _relayed(self._arrives(state, batch), number, left)
        if state.luck.crashes and (relay.todo or relay.acknowledged):
            luck = state.luck._replace(crashes=state.luck.crashes - 1)
            yield (
                f"{name} crashes and starts again",
                _relayed(state._replace(luck=luck), number, Relay(flying=relay.flying)),
            )
        if relay.todo:
            yield from self._sends(state, number, name)
        if not relay.todo or self.rules.stuck_place_not_read:
            yield from self._deletes_and_reads(state, number, name)

    def _deletes_and_reads(self, state: State, number: int, name: str) -> Steps:
        """What was acknowledged goes, and the oldest of the rest is read, beside what is still being sent."""
        relay, rules, database = state.relays[number], self.rules, state.database
        numbers = {row.number for row in relay.acknowledged}
        rows = tuple(
            row
            for row in database.rows
            if not (row in relay.acknowledged if rules.row_deleted_by_content else row.number in numbers)
        )
        busy = {self.place(row) for row in relay.todo}
        readable = [
            row
            for row in rows
            if self.place(row) not in busy
            and not (rules.refused_not_read and self.writers[row.writer] in relay.members_off)
            and not (rules.stuck_place_not_read and self.place(row) in relay.places_off)
            and (rules.no_cursor or row.number > relay.cursor)
        ]
        todo = tuple(readable[: self.limit])
        if not todo and not relay.acknowledged:
            return
        cursor = max((row.number for row in todo), default=relay.cursor) if not rules.no_cursor else -1
        read = Relay(
            relay.todo + todo,
            failed=relay.failed & busy,
            flying=relay.flying,
            members_off=relay.members_off,
            places_off=relay.places_off,
        )
        if not rules.deleted_after_ack:
            rows = tuple(row for row in rows if row not in todo)
        after = state._replace(database=database._replace(rows=rows))
        said = f"{name} deletes {_events(relay.acknowledged)} and reads {_events(todo)}"
        yield said, _relayed(after, number, read._replace(cursor=cursor))

    def _sends(self, state: State, number: int, name: str) -> Steps:
        """The next batch of each partition that has not failed; the partitions go side by side."""
        relay = state.relays[number]
        places = {self.place(row) for row in relay.todo}
        for place in places - relay.failed if self.rules.batch_awaited else places:
            batch = [row for row in relay.todo if self.place(row) == place][: self.batch]
            yield from self._sends_batch(state, number, name, place, tuple(batch))
        if relay.failed & places and self.rules.batch_awaited:
            left = tuple(row for row in relay.todo if self.place(row) not in relay.failed)
            yield f"{name} leaves the rest of what failed", _relayed(state, number, relay._replace(todo=left))

    def _sends_batch(self, state: State, number: int, name: str, place: int, batch: tuple[Row, ...]) -> Steps:
        relay, what = state.relays[number], f"{name} sends {_events(batch)}"
        left = tuple(row for row in relay.todo if row not in batch)
        # A batch is refused as a whole for one record that is too old.
        old = state.forgotten if self.rules.too_old_refused else frozenset()
        bad = {
            self.writers[row.writer] for row in batch if row.writer in old or self.writers[row.writer] in self.refused
        }
        if bad:
            yield f"{what}: refused, row by row", self._row_by_row(state, number, batch, bad)
            return
        off = relay.places_off | {place} if place in self.dead_places else relay.places_off
        failed = relay._replace(todo=left, failed=relay.failed | {place}, places_off=off)
        if place in self.dead_places:
            yield f"{what}: no answer", _relayed(state, number, failed)
            return
        sent = relay._replace(todo=left, acknowledged=relay.acknowledged | set(batch))
        yield f"{what}: acknowledged", _relayed(self._arrives(state, batch), number, sent)
        if state.luck.failures:
            worse = state._replace(luck=state.luck._replace(failures=state.luck.failures - 1))
            yield f"{what}: failed", _relayed(worse, number, failed)
            yield f"{what}: arrived, the answer is lost", _relayed(self._arrives(worse, batch), number, failed)
            flying = failed._replace(flying=(*relay.flying, batch))
            yield f"{what}: given up, still on its way", _relayed(worse, number, flying)

    def _row_by_row(self, state: State, number: int, batch: tuple[Row, ...], bad: set[str]) -> State:
        relay, stops = state.relays[number], self.rules.member_stops
        # Of a member with a refused record the first is refused; a looser relay would go on with the next.
        good: list[Row] = []
        refused: set[str] = set()
        for row in batch:
            member = self.writers[row.writer]
            if member in bad and (stops or member not in refused):
                refused.add(member)
            else:
                good.append(row)
        left = tuple(row for row in relay.todo if row not in batch and not (stops and self.writers[row.writer] in bad))
        sent = relay._replace(
            todo=left, acknowledged=relay.acknowledged | set(good), members_off=relay.members_off | (bad & self.refused)
        )
        return _relayed(self._arrives(state, tuple(good)), number, sent)

    def _arrives(self, state: State, batch: tuple[Row, ...]) -> State:
        events = tuple(row.writer for row in batch)
        late = [event for event in events if event in state.forgotten]
        if late and self.rules.too_old_refused:
            return state
        return state._replace(log=state.log + events, came_late=state.came_late or bool(late))

    # -- the world

    def _world_steps(self, state: State) -> Steps:
        if self.forgets:
            waiting = {row.writer for row in state.database.rows}
            for event in set(state.log) - waiting - state.forgotten:
                yield f"the inbox forgets event {event + 1}", state._replace(forgotten=state.forgotten | {event})
        if state.luck.restores and state.backup is None:
            yield "a backup is made", state._replace(backup=state.database)
        if state.luck.restores and state.backup not in (None, state.database):
            assert state.backup is not None
            writers = tuple(writer if writer.doing == "done" else Writer() for writer in state.backup.writers)
            luck = state.luck._replace(restores=state.luck.restores - 1)
            restored = state.backup._replace(writers=writers)
            yield "the database is restored", state._replace(database=restored, backup=None, luck=luck)


def _events(rows: Sequence[Row] | frozenset[Row]) -> str:
    return ", ".join(f"{row.writer + 1} (row {row.number})" for row in sorted(rows)) or "nothing"


def _relayed(state: State, number: int, relay: Relay) -> State:
    return state._replace(relays=(*state.relays[:number], relay, *state.relays[number + 1 :]))


def _wrote(state: State, number: int, writer: Writer, *, draws: bool = False) -> State:
    database = state.database
    writers = (*database.writers[:number], writer, *database.writers[number + 1 :])
    number_next = database.next_number + draws
    return state._replace(database=database._replace(writers=writers, next_number=number_next))
