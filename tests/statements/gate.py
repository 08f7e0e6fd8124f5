"""What the gate asks of counts: as many statements for 200 as for one, and few."""

from collections.abc import Mapping

from tests.statements.counting import Counted

MOST = 40
"""Of one batch, whatever it holds."""
SAME_TEXT_MOST = 3
"""How often one statement may be run in a batch without being a loop: two tables of one shape, a second look."""


def require_constant(what: str, counts: Mapping[int, Counted]) -> None:
    """AssertionError where the number of statements depends on how many events there are."""
    totals = {size: counted.total for size, counted in counts.items()}
    largest = counts[max(counts)]
    looped = largest.repeated(more_than=SAME_TEXT_MOST)
    assert len(set(totals.values())) == 1, f"{what}: statements by size {totals}; {looped}"
    assert largest.total <= MOST, f"{what}: {largest.total} statements"
