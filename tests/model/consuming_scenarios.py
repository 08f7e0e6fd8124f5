"""What consuming is checked with: where it holds, and what breaks without each of its rules."""

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import Breaks, Holds
from tests.model.consuming import Consuming, Luck
from tests.model.consuming_rules import Record, Rules, Stream

INTENDED = Rules()

GUILTY = Record("a1", "ann", raises=True)
SECOND, THIRD = Record("a2", "ann"), Record("a3", "ann")
OTHER = Record("b1", "bob")
UNREADABLE = Record("u1", "ann", readable=False)
EARLY = Record("x1", "ann", needs="n1")
NEED = Record("n1", "ann")


def activity(*records: Record) -> Stream:
    return Stream("activity", records)


def members(*records: Record) -> Stream:
    return Stream("members", records)


def safety(*records: Record) -> Stream:
    return Stream("safety", records, is_safety=True)


def a_bug(rules: Rules) -> Consuming:
    """Two owners of one partition, an event that makes its handler raise, an operator who mends and replays."""
    streams, luck = [activity(GUILTY, OTHER, SECOND)], Luck(crashes=1, unknowns=1, aborts=1)
    return Consuming(rules=rules, streams=streams, owners=[0, 0], drainers=["operator"], luck=luck)


def copies(rules: Rules) -> Consuming:
    """Copies of a guilty event and of one behind it; two operators at once."""
    streams = [activity(GUILTY, SECOND, SECOND, GUILTY)]
    drainers = ["operator", "operator"]
    return Consuming(rules=rules, streams=streams, owners=[0, 0], drainers=drainers, luck=Luck(unknowns=1))


def unreadable(rules: Rules) -> Consuming:
    """Two copies of an event that nobody can read before the code is mended."""
    streams = [activity(UNREADABLE, UNREADABLE, OTHER, SECOND)]
    luck = Luck(crashes=1, unknowns=1)
    return Consuming(rules=rules, streams=streams, owners=[0, 0], drainers=["operator"], luck=luck)


def waiting(rules: Rules) -> Consuming:
    """Another group's transaction brings what an event waits for, perhaps only after a day."""
    return Consuming(
        rules=rules,
        streams=[activity(EARLY, SECOND), members(NEED)],
        owners=[0, 0, 1],
        drainers=["housekeeper"],
        expires=True,
        mends=False,
        luck=Luck(crashes=1, unknowns=1),
    )


def long_queue(rules: Rules) -> Consuming:
    """A queue of three where one transaction takes one."""
    return Consuming(
        rules=rules,
        streams=[activity(EARLY, SECOND, THIRD), members(NEED)],
        owners=[0, 0, 1],
        drainers=["housekeeper"],
        mends=False,
        page=1,
        luck=Luck(crashes=1),
    )


def faults_outside(rules: Rules) -> Consuming:
    """A copy under a wrong key, the event as it should be, and another body under its identity."""
    wrong, right = Record("e1", "ann", key="bob"), Record("e1", "ann")
    streams = [activity(wrong, right, right._replace(body=1), SECOND)]
    return Consuming(rules=rules, streams=streams, owners=[0, 0], luck=Luck(crashes=1, unknowns=1, aborts=1))


def restored(rules: Rules) -> Consuming:
    """The database is restored under two owners, at any moment, to any earlier state."""
    return Consuming(
        rules=rules,
        streams=[activity(GUILTY, OTHER, SECOND)],
        owners=[0, 0],
        drainers=["operator"],
        luck=Luck(restores=1, unknowns=1),
    )


def moved(rules: Rules) -> Consuming:
    """An operator moves the position back."""
    streams, luck = [activity(GUILTY, SECOND, SECOND)], Luck(moves=1, crashes=1)
    return Consuming(rules=rules, streams=streams, owners=[0, 0], drainers=["operator"], luck=luck)


def moved_and_waiting(rules: Rules) -> Consuming:
    """... and an event of the same member waits."""
    streams = [*moved(rules).streams, members(NEED)]
    streams[0] = activity(*streams[0].records, EARLY)
    return replace(moved(rules), streams=streams, owners=[0, 0, 1])


def red_flags(rules: Rules) -> Consuming:
    """A safety group beside the ordinary one whose events wait."""
    records = (EARLY, Record("e1", "ann", key="bob"), SECOND)
    return Consuming(
        rules=rules,
        streams=[activity(*records), safety(*records), members(NEED)],
        owners=[0, 1, 2],
        mends=False,
        luck=Luck(crashes=1),
    )


def two_partitions(rules: Rules) -> Consuming:
    """Two members' events under one identity, in two partitions at once."""
    streams = [activity(SECOND), activity(Record("a2", "bob", body=1), OTHER)]
    wanted = frozenset({(1, "b1")})
    luck = Luck(crashes=1, unknowns=1)
    return Consuming(rules=rules, streams=streams, owners=[0, 1, 1], mends=False, wanted=wanted, luck=luck)


def killer(rules: Rules) -> Consuming:
    """An event that kills its process every time."""
    streams = [activity(OTHER, Record("k1", "ann", kills=True), SECOND)]
    luck = Luck(unknowns=1)
    return Consuming(rules=rules, streams=streams, owners=[0], drainers=["operator"], luck=luck)


def killer_at_fault(rules: Rules) -> Consuming:
    """One in a safety group that is at fault besides, and one with another body under its identity."""
    wrong = Record("k1", "ann", key="bob", kills=True)
    streams = [safety(wrong, OTHER, OTHER._replace(body=1, kills=True), SECOND)]
    return Consuming(
        rules=rules, streams=streams, owners=[0], mends=False, wanted=frozenset({(0, "b1"), (0, "a2")}),
        luck=Luck(unknowns=1),
    )  # fmt: skip


def handed_on(rules: Rules) -> Consuming:
    """A partition is handed over again and again with an innocent event in hand."""
    streams = [safety(OTHER, Record("k1", "ann", kills=True), SECOND)]
    return Consuming(
        rules=rules, streams=streams, owners=[0], mends=False, wanted=frozenset({(0, "b1"), (0, "a2")}),
        hands_over=True, luck=Luck(aborts=1),
    )  # fmt: skip


def stopped(rules: Rules) -> Consuming:
    """A process that is stopped for ever inside its transaction."""
    streams = [activity(GUILTY, OTHER, SECOND)]
    luck = Luck(stops=1, unknowns=1)
    return Consuming(rules=rules, streams=streams, owners=[0, 0], drainers=["operator"], luck=luck)


def stopped_beside(rules: Rules) -> Consuming:
    """... and holds the member of a red flag; the server does not even end it."""
    return Consuming(
        rules=replace(rules, server_ends_idle=False),
        streams=[activity(GUILTY, SECOND), safety(SECOND)],
        owners=[0, 1, 1],
        may_stop=0,
        luck=Luck(stops=1, crashes=2),
        wanted=frozenset({(1, "a2")}),
    )


def unmended(rules: Rules) -> Consuming:
    """Nobody ever mends anything: the others' events take effect all the same."""
    streams = [activity(GUILTY, OTHER, UNREADABLE._replace(event="u2"), SECOND, Record("b2", "bob"))]
    wanted = frozenset({(0, "b1"), (0, "b2")})
    return Consuming(
        rules=rules, streams=streams, owners=[0, 0], mends=False, wanted=wanted, luck=Luck(crashes=1, unknowns=1)
    )


def holds(name: str, build: Callable[[Rules], Consuming], states: int) -> Holds:
    return Holds(name=f"consuming: {name}", build=lambda: build(INTENDED), states=states)


HOLDS = [
    holds("a bug among neighbours", a_bug, 10_000),
    holds("copies and two operators", copies, 3_700),
    holds("unreadable copies", unreadable, 14_000),
    holds("waiting and a day", waiting, 4_100),
    holds("a long queue", long_queue, 1_600),
    holds("faults outside an event", faults_outside, 5_100),
    holds("a restored database", restored, 13_000),
    holds("a moved position", moved, 7_100),
    holds("red flags", red_flags, 4_300),
    holds("one event in two partitions", two_partitions, 3_400),
    holds("an event that kills", killer, 170),
    holds("a red flag that kills and is at fault", killer_at_fault, 30),
    holds("a stopped process", stopped, 6_700),
    holds("a stopped process beside a red flag", stopped_beside, 2_300),
    holds("nobody mends", unmended, 2_700),
]


def breaks(flag: str, invariant: str, build: Callable[[Rules], Consuming]) -> Breaks:
    def machine() -> Consuming:
        return build(replace(INTENDED, **{flag: False}))

    return Breaks(rule=f"consuming.{flag}", invariant=invariant, build=machine)


def one(*streams: Stream, **more: object) -> Callable[[Rules], Consuming]:
    """One owner a stream and an operator."""

    def build(rules: Rules) -> Consuming:
        options: dict[str, object] = {"drainers": ["operator"], **more}
        return Consuming(rules=rules, streams=streams, owners=range(len(streams)), **options)  # type: ignore[arg-type]

    return build


unreadable_and_early = one(activity(UNREADABLE._replace(needs="n1"), SECOND), members(NEED))
unreadable_and_another_body = one(activity(UNREADABLE, Record("u1", "ann", body=1)))
unreadable_and_a_copy_behind = one(activity(UNREADABLE, SECOND, UNREADABLE))
unreadable_under_a_wrong_key = one(activity(Record("w1", "bob", key="ann", readable=False), OTHER))
moved_over_unreadable = one(activity(UNREADABLE, SECOND), luck=Luck(moves=1))

BREAKS = [
    breaks("position_row", "books", a_bug),
    breaks("base_checked", "lost", restored),
    breaks("taken_dropped", "books", a_bug),
    breaks("position_forward", "books", a_bug),
    breaks("watched", "trap", restored),
    breaks("inbox", "once", one(activity(OTHER, OTHER))),
    breaks("inbox_first", "once", copies),
    breaks("copies_in_chunk", "once", one(activity(OTHER, OTHER))),
    breaks("inbox_outside_savepoint", "once", copies),
    breaks("late_conflict", "once", two_partitions),
    breaks("other_body_told", "lost", faults_outside),
    breaks("fault_leaves_identity", "lost", faults_outside),
    breaks("reread_gives_back", "lost", moved_over_unreadable),
    breaks("queue_read_after_lock", "stranded", a_bug),
    breaks("unreadable_parks", "order", one(activity(UNREADABLE, SECOND))),
    breaks("rest_queues_behind", "order", one(activity(GUILTY, SECOND))),
    breaks("held_in_log_order", "order", one(activity(EARLY, UNREADABLE), members(NEED))),
    breaks("drain_locks_member", "once", copies),
    breaks("drain_locks_member", "stranded", a_bug),
    breaks("drain_in_one_transaction", "once", a_bug),
    breaks("drain_trusts_inbox", "lost", a_bug),
    breaks("late_identity_taken", "once", unreadable),
    breaks("late_copy_behind", "order", unreadable_and_a_copy_behind),
    breaks("late_identity_given_back", "lost", unreadable_and_early),
    breaks("late_body_compared", "lost", unreadable_and_another_body),
    breaks("drained_key_judged", "order", unreadable_under_a_wrong_key),
    breaks("released_by_its_need", "trap", lambda rules: replace(waiting(rules), drainers=())),
    breaks("expired_head_tried", "trap", waiting),
    breaks("next_head_marked", "stranded", long_queue),
    breaks("safety_never_drains", "once", red_flags),
    breaks("safety_takes_no_lock", "trap", stopped_beside),
    breaks("safety_looks_at_faults", "red flag", red_flags),
    breaks("killer_first", "trap", killer_at_fault),
    breaks("safety_goes_on", "red flag", one(safety(GUILTY, SECOND))),
    breaks("bug_isolated", "trap", a_bug),
    breaks("attempts_counted", "trap", killer),
    breaks("attempts_taken_back", "red flag", handed_on),
    breaks("server_ends_idle", "trap", stopped),
]


HOLDS += [
    holds("handed on", handed_on, 20),
    holds("unreadable and early", unreadable_and_early, 90),
    holds("unreadable, and another body", unreadable_and_another_body, 20),
    holds("unreadable, and a copy behind", unreadable_and_a_copy_behind, 20),
    holds("unreadable under a wrong key", unreadable_under_a_wrong_key, 20),
    holds("moved back over the unreadable", moved_over_unreadable, 90),
]
DEEP = [
    holds("a bug, three owners", lambda rules: replace(a_bug(rules), owners=[0, 0, 0]), 89_000),
    holds("a bug, each mishap twice", lambda rules: replace(a_bug(rules), luck=Luck(2, 2, 2)), 39_000),
    holds("copies, three owners", lambda rules: replace(copies(rules), owners=[0, 0, 0]), 38_000),
    holds("unreadable, three owners", lambda rules: replace(unreadable(rules), owners=[0, 0, 0]), 120_000),
    holds("waiting, four owners", lambda rules: replace(waiting(rules), owners=[0, 0, 1, 1]), 14_000),
    holds("restored twice", lambda rules: replace(restored(rules), luck=Luck(1, 1, restores=2)), 58_000),
    holds("red flags, two owners each", lambda rules: replace(red_flags(rules), owners=[0, 0, 1, 1, 2]), 530_000),
    holds("a moved position and a waiting event", moved_and_waiting, 90_000),
    holds("everything once", lambda rules: replace(copies(rules), luck=Luck(1, 1, 1, 1, 1)), 320_000),
]
