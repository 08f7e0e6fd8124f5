"""What must become of events, said so simply that it is obviously right: one event after the other, lists and sets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["dead", "waiting", "parked"]
BUG, WAITS, REFUSED = 9, 8, 7


@dataclass(frozen=True)
class Told:
    """An event as somebody published it."""

    identity: str
    member: int
    score: int
    is_readable: bool = True
    """Without a mended reader."""
    key: int | None = None
    """Another member's, where the publisher was wrong."""

    @property
    def body(self) -> tuple[int, int]:
        """What it says: the same in an older version, once somebody can read that."""
        return self.member, self.score


@dataclass
class Entry:
    told: Told
    state: State
    is_late: bool = False
    """At fault when it came: the inbox does not know it by its own identity."""


@dataclass
class Clinic:
    """One group that follows activity."""

    is_fixed: bool = False
    is_mended: bool = False
    joined: set[int] = field(default_factory=set)
    taken: dict[str, Told] = field(default_factory=dict)
    queues: dict[int, list[Entry]] = field(default_factory=dict)
    effects: dict[int, list[int]] = field(default_factory=dict)
    alone: int = 0
    """Dead letters that nobody queues behind."""

    def queue(self, member: int) -> list[Entry]:
        return self.queues.setdefault(member, [])

    def take_chunk(self, chunk: Sequence[Told]) -> None:
        """Who waits is tried again behind what comes, and may find that something else has its identity now."""
        for told in chunk:
            self._take(told)
        for member in dict.fromkeys(told.member for told in chunk):
            self._try_waiting(member)

    def _take(self, told: Told) -> None:
        if not told.is_readable and not self.is_mended:
            self.queue(told.member).append(Entry(told, "dead", is_late=True))
        elif told.key is not None:
            self.alone += 1
        elif told.identity in self.taken:
            self.alone += self.taken[told.identity].body != told.body
        else:
            self.taken[told.identity] = told
            if self.queue(told.member):
                self.queue(told.member).append(Entry(told, "parked"))
            elif (state := self._apply(told)) is not None:
                self.queue(told.member).append(Entry(told, state))

    def join(self, member: int) -> None:
        self.joined.add(member)
        self._try_waiting(member)

    def _try_waiting(self, member: int) -> None:
        queue = self.queue(member)
        if queue and queue[0].state == "waiting":
            self.drain(member)

    def replay(self, member: int) -> None:
        self.drain(member, with_head=True)

    def discard(self, member: int) -> None:
        self.queue(member).pop(0)
        self.drain(member)

    def drain(self, member: int, *, with_head: bool = False) -> None:
        queue = self.queue(member)
        while queue:
            entry = queue[0]
            if entry.state == "dead" and not with_head:
                return
            with_head = False
            if not entry.told.is_readable and not self.is_mended:
                entry.state = "dead"
                return
            if entry.is_late:
                self._put_before_its_copy(entry, queue[1:])
            known = self.taken.get(entry.told.identity) if entry.is_late else None
            if known is None and (state := self._apply(entry.told)) is not None:
                entry.state = state
                return
            if known is None:
                self.taken[entry.told.identity] = entry.told
            elif known.body != entry.told.body:
                self.alone += 1
            queue.pop(0)

    def _put_before_its_copy(self, entry: Entry, behind: Sequence[Entry]) -> None:
        """The first of two copies in a queue is the event, the one behind the copy."""
        for other in behind:
            if not other.is_late and (other.told.identity, other.told.body) == (entry.told.identity, entry.told.body):
                entry.is_late, other.is_late = False, True

    def _apply(self, told: Told) -> State | None:
        """What it is held as, or None."""
        if told.score == BUG and not self.is_fixed:
            return "dead"
        if told.score == WAITS and told.member not in self.joined:
            return "waiting"
        if told.score != REFUSED:
            self.effects.setdefault(told.member, []).append(told.score)
        return None
