"""What reading is checked with."""

from collections.abc import Callable
from dataclasses import replace

from tests.model.cases import Breaks, Holds
from tests.model.reading import Luck, Reading, Rules

INTENDED = Rules()


def gaps(rules: Rules) -> Reading:
    """Transactions left gaps; Kafka was told a position that the database has lost."""
    return Reading(rules=rules, records=[0, 2, 3, 5, 6, 8], end=10, told=3)


def restored(rules: Rules) -> Reading:
    """The database is restored under the reader."""
    return Reading(rules=rules, records=[0, 1, 3, 4, 6], end=8, told=3, luck=Luck(restores=1))


def truncated(rules: Rules) -> Reading:
    """Retention overtakes the reader."""
    return Reading(rules=rules, records=[0, 1, 3, 4, 6], end=7, luck=Luck(truncations=1, restores=1))


def holds(name: str, build: Callable[[Rules], Reading], states: int) -> Holds:
    return Holds(name=f"reading: {name}", build=lambda: build(INTENDED), states=states)


def breaks(flag: str, invariant: str, build: Callable[[Rules], Reading]) -> Breaks:
    return Breaks(rule=f"reading.{flag}", invariant=invariant, build=lambda: build(replace(INTENDED, **{flag: False})))


HOLDS = [
    holds("gaps", gaps, 130),
    holds("a restored database", restored, 380),
    holds("a truncated log", truncated, 5_900),
]
BREAKS = [
    breaks("stored_sought", "trap", gaps),
    breaks("unsought_dropped", "skipped", gaps),
    breaks("gap_doubted", "skipped", gaps),
    breaks("gap_fetched_again", "skipped", gaps),
    breaks("gap_asked_of_log", "skipped", truncated),
    breaks("gap_asked_after_fetch", "skipped", truncated),
    breaks("gap_accepted", "trap", gaps),
    breaks("silence_watched", "trap", restored),
]
DEEP = [
    holds("a longer log", lambda rules: replace(restored(rules), records=[0, 1, 3, 4, 6, 7, 9], end=11), 890),
]
