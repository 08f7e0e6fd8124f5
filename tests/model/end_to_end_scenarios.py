"""What the way from one service to the next is checked with."""

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import Breaks, Holds
from tests.model.end_to_end import EndToEnd, Event, Luck, Rules

FIRST, SECOND, OTHER = Event("a1", "ann"), Event("a2", "ann"), Event("b1", "bob")
COMMAND = Event("c1", "ann")


def guilty(rules: Rules) -> EndToEnd:
    """Both services park the same member; a command comes between."""
    return EndToEnd(
        rules=rules,
        source=[FIRST, SECOND],
        commands=[COMMAND],
        guilty_first=frozenset({"a1"}),
        guilty_second=frozenset({"a2"}),
        luck=Luck(failures=1, crashes=1),
    )


def two_relays(rules: Rules) -> EndToEnd:
    """Two relays at once."""
    return EndToEnd(rules=rules, source=[FIRST, SECOND], relays=2, luck=Luck(failures=1, crashes=1))


def copies(rules: Rules) -> EndToEnd:
    """Copies in the first log, two members."""
    source = [FIRST, OTHER, FIRST, SECOND]
    return EndToEnd(rules=rules, source=source, guilty_second=frozenset({"a1"}), luck=Luck(failures=1))


def first_restored(rules: Rules) -> EndToEnd:
    """The first service's database is restored to any earlier state."""
    return EndToEnd(rules=rules, source=[FIRST, OTHER, SECOND], luck=Luck(first_restores=1, failures=1))


def second_restored(rules: Rules) -> EndToEnd:
    """The second service's database is restored to any earlier state."""
    return EndToEnd(
        rules=rules,
        source=[FIRST, OTHER, SECOND],
        guilty_second=frozenset({"a1"}),
        luck=Luck(second_restores=1, failures=1),
    )


def holds(name: str, build: Callable[[Rules], EndToEnd], states: int) -> Holds:
    return Holds(name=f"end_to_end: {name}", build=lambda: build(Rules()), states=states)


def breaks(flag: str, invariant: str, build: Callable[[Rules], EndToEnd]) -> Breaks:
    return Breaks(
        rule=f"end_to_end.{flag}", invariant=invariant, build=lambda: build(replace(Rules(), **{flag: False}))
    )


HOLDS = [
    holds("both park", guilty, 6_200),
    holds("two relays", two_relays, 11_000),
    holds("copies", copies, 1_500),
    holds("the first service restored", first_restored, 33_000),
    holds("the second service restored", second_restored, 9_000),
]
BREAKS = [
    breaks("derived_ids", "once", first_restored),
    breaks("outbox_in_transaction", "lost", two_relays),
    breaks("reader_inbox", "once", two_relays),
    breaks("replay_publishes", "lost", guilty),
    breaks("relay_stops", "order", two_relays),
]
DEEP = [
    holds("both park, two relays", lambda rules: replace(guilty(rules), relays=2), 870_000),
    holds("the first restored, a crash", lambda rules: replace(first_restored(rules), luck=Luck(1, 1, 1)), 150_000),
    holds("both restored", lambda rules: replace(second_restored(rules), luck=Luck(1, 0, 1, 1)), 1_100_000),
]
