"""What publishing is checked with."""

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import Breaks, Holds
from tests.model.publishing import Luck, Publishing, Rules

INTENDED = Rules()


def one_member(rules: Rules) -> Publishing:
    """Two decisions about one member, two relays, a failure and a crash; batches of one."""
    return Publishing(rules=rules, writers=["ann", "ann"], batch=1, luck=Luck(failures=1, crashes=1))


def three_decisions(rules: Rules) -> Publishing:
    """Three decisions about one member, one batch."""
    return Publishing(rules=rules, writers=["ann", "ann", "ann"], relays=1, luck=Luck(failures=1, crashes=1))


def two_members(rules: Rules) -> Publishing:
    """Members in two partitions."""
    return Publishing(rules=rules, writers=["ann", "bob", "ann"], places=[0, 1, 0], relays=1, luck=Luck(1, 1))


def refused(rules: Rules) -> Publishing:
    """Kafka refuses one member's records for ever, and a round reads two rows."""
    return Publishing(
        rules=rules,
        writers=["ann", "ann", "bob"],
        relays=1,
        limit=2,
        refused=frozenset({"ann"}),
        wanted=frozenset({2}),
        luck=Luck(crashes=1),
    )


def dead_partition(rules: Rules) -> Publishing:
    """A partition never answers, and a round reads two rows."""
    return Publishing(
        rules=rules,
        writers=["ann", "ann", "bob"],
        places=[0, 0, 1],
        relays=1,
        limit=2,
        dead_places=frozenset({0}),
        wanted=frozenset({2}),
        luck=Luck(crashes=1),
    )


def forgetting(rules: Rules) -> Publishing:
    """A relay that wakes after the inboxes have forgotten."""
    return Publishing(rules=rules, writers=["ann", "ann"], forgets=True, luck=Luck(failures=1))


def failed_over(rules: Rules) -> Publishing:
    """The database is restored under a relay, to any earlier state: the numbers drawn since are drawn again."""
    return Publishing(rules=rules, writers=["ann", "bob"], relays=1, luck=Luck(restores=1, failures=1))


def holds(name: str, build: Callable[[Rules], Publishing], states: int) -> Holds:
    return Holds(name=f"publishing: {name}", build=lambda: build(INTENDED), states=states)


def breaks(flag: str, invariant: str, build: Callable[[Rules], Publishing]) -> Breaks:
    return Breaks(
        rule=f"publishing.{flag}", invariant=invariant, build=lambda: build(replace(INTENDED, **{flag: False}))
    )


HOLDS = [
    holds("one member, two relays", one_member, 12_000),
    holds("three decisions", three_decisions, 8_200),
    holds("two partitions", two_members, 27_000),
    holds("a member refused", refused, 820),
    holds("relays that wake late", forgetting, 5_400),
    holds("a partition that never answers", dead_partition, 1_000),
    holds("a database that fails over", failed_over, 23_000),
]
BREAKS = [
    breaks("id_after_lock", "order", three_decisions),
    breaks("ids_ascend", "order", one_member),
    breaks("no_cursor", "trap", lambda rules: Publishing(rules=rules, writers=["ann", "bob"], relays=1)),
    breaks("deleted_after_ack", "lost", one_member),
    breaks("batch_awaited", "order", one_member),
    breaks("member_stops", "order", refused),
    breaks("refused_not_read", "trap", refused),
    breaks("stuck_place_not_read", "trap", dead_partition),
    breaks("too_old_refused", "once", forgetting),
    breaks("row_deleted_by_content", "lost", failed_over),
]
DEEP = [
    holds("three decisions, two relays", lambda rules: replace(three_decisions(rules), relays=2), 430_000),
    holds("one member, three relays", lambda rules: replace(one_member(rules), relays=3), 260_000),
    holds("one member, everything twice", lambda rules: replace(one_member(rules), luck=Luck(2, 2)), 190_000),
    holds("two partitions, batches of one", lambda rules: replace(two_members(rules), batch=1), 32_000),
]
