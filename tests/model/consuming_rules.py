"""What the model of consuming is about: records, the books that a service keeps of them, and the rules, one by one."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol of consuming, a flag a rule. Switched off, each is what a simpler implementation would do."""

    # The position
    position_row: bool = True
    """The position's row exists before the first chunk, so that there is something to lock."""
    base_checked: bool = True
    """A chunk that begins after the stored position is not taken."""
    taken_dropped: bool = True
    """Records below the stored position are dropped."""
    position_forward: bool = True
    """A chunk never moves the position back."""
    watched: bool = True
    """An idle lane whose stored position changed is opened again."""
    # The inbox
    inbox: bool = True
    inbox_first: bool = True
    """The inbox row is written before an event is parked behind another."""
    copies_in_chunk: bool = True
    """Of two copies in one chunk the first counts."""
    inbox_outside_savepoint: bool = True
    """The inbox row of a guilty event outlives the savepoint that its handler is rolled back to."""
    late_conflict: bool = True
    """What another partition took while the inbox statement waited for it is noticed, and the chunk taken again."""
    other_body_told: bool = True
    """Another body under a known identity is a dead letter, not a duplicate."""
    fault_leaves_identity: bool = True
    """A fault outside the event (wrong key, time) leaves its identity free."""
    reread_gives_back: bool = True
    """A held record that is read once more, and is readable now, leaves its own identity to the replay."""
    # Queues of held events
    queue_read_after_lock: bool = True
    """Queues and inbox are read in a statement after the members' locks were granted."""
    unreadable_parks: bool = True
    """An unreadable record whose key can be read parks its member."""
    rest_queues_behind: bool = True
    """The rest of a guilty event's member queues behind it within its chunk."""
    held_in_log_order: bool = True
    """What a chunk adds to a queue is added in log order, whichever way each record came to be held."""
    drain_locks_member: bool = True
    drain_in_one_transaction: bool = True
    """A drained event's effect and the deletion of its row are one transaction."""
    drain_trusts_inbox: bool = True
    """A drained event is not looked up in the inbox, where it is since it was held."""
    late_identity_taken: bool = True
    """A drained event that could not be read when it came is looked up and taken under its own identity."""
    late_copy_behind: bool = True
    """... also where the inbox knows it by a copy held behind it in its queue: the two exchange their identities."""
    late_identity_given_back: bool = True
    """... which is given back when the event has no effect after all."""
    late_body_compared: bool = True
    """... and whose other copy, taken meanwhile, had another body goes alone; it is no repeat."""
    drained_key_judged: bool = True
    """A drained event whose key is not its subject goes alone, as it would have when it came."""
    released_by_its_need: bool = True
    """What waits is tried in the transaction that may have brought what it needs, in whichever group."""
    expired_head_tried: bool = True
    """A head that waited too long is still tried when its member has something new."""
    next_head_marked: bool = True
    """A queue too long for one transaction goes on: its next head is marked as one that waits."""
    # Safety groups
    safety_never_drains: bool = True
    safety_takes_no_lock: bool = True
    safety_looks_at_faults: bool = True
    """A safety group looks at an event whose key, time or identity is at fault all the same."""
    killer_first: bool = True
    """What kills its process is not looked at, whatever else is at fault with it."""
    safety_goes_on: bool = True
    """In a safety group nothing queues behind a guilty event."""
    # Processes
    bug_isolated: bool = True
    """A chunk that fails with a bug runs once more in isolation; else it is tried again for ever."""
    attempts_counted: bool = True
    """An attempt is written down before it is made, once starts have made no progress."""
    attempts_taken_back: bool = True
    """One that failed or was given up did not kill: it is taken back."""
    server_ends_idle: bool = True
    """The server ends a transaction in which nothing happens."""


class Record(NamedTuple):
    """One record of a log. What is wrong with it is so until the operator has mended the code."""

    event: str
    member: str
    """The subject of the event."""
    body: int = 0
    readable: bool = True
    raises: bool = False
    kills: bool = False
    needs: str = ""
    """An event that must have taken effect before this one can."""
    key: str = ""
    """Whose key the record has, where that is not its subject's."""

    @property
    def is_innocent(self) -> bool:
        return self.readable and not (self.raises or self.kills or self.needs or self.key)


class Stream(NamedTuple):
    """One partition as one consumer group reads it."""

    group: str
    records: tuple[Record, ...]
    is_safety: bool = False


class Row(NamedTuple):
    """A held event. `alone` blocks nobody; `expired` is a dead letter that waited too long; `more` is the head of a
    queue that was too long for one transaction."""

    stream: int
    offset: int
    member: str
    """Whose queue it is in: the subject, or the key's member where the event could not be read."""
    identity: str
    state: str


class Effect(NamedTuple):
    stream: int
    offset: int


class Books(NamedTuple):
    """What is committed in one service's database."""

    positions: tuple[int, ...]
    counted: tuple[int, ...]
    """Records counted as read, a stream."""
    inbox: frozenset[tuple[str, int]]
    held: tuple[Row, ...]
    effects: tuple[Effect, ...]
    """In the order of their commits."""
    attempts: frozenset[tuple[int, int]] = frozenset()
    stalled: tuple[bool, ...] = ()
    """Whether the last start of a stream made no progress."""


class Seen(NamedTuple):
    """What a consumer's statement showed it, which it acts on until it commits."""

    known: frozenset[tuple[str, int]]
    blocked: frozenset[str]
    awaited: bool


class Queue(NamedTuple):
    """All blocking rows of one member in one group."""

    group: str
    member: str


BLOCKING = ("dead", "parked", "waiting", "expired", "more")
AWAITED = ("waiting", "expired", "more")
PLACE_BODY = -1
"""The body of what is taken by its place in the log."""
