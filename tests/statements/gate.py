"""What the gate asks of counts: as many statements for 200 as for one, and few."""

from collections import Counter
from collections.abc import Mapping

from shared.database import Database
from tests.statements.counting import Counted

MOST = 40
"""Of one batch, whatever it holds."""
ONE_ROW = frozenset({"public.feed_head", "delivery.relay_lease"})
"""Tables with nothing to look up."""
WHOLE_READS = "select schemaname || '.' || relname as name, seq_scan from pg_stat_user_tables where seq_scan > 0"
SAME_TEXT_MOST = 3
"""How often one statement may be run in a batch without being a loop: two tables of one shape, a second look."""


def require_constant(what: str, counts: Mapping[int, Counted]) -> None:
    """AssertionError where the number of statements depends on how many events there are."""
    totals = {size: counted.total for size, counted in counts.items()}
    largest = counts[max(counts)]
    looped = largest.repeated(more_than=SAME_TEXT_MOST)
    assert len(set(totals.values())) == 1, f"{what}: statements by size {totals}; {looped}"
    assert largest.total <= MOST, f"{what}: {largest.total} statements"


async def count_whole_reads(database: Database) -> Counter[str]:
    """How often each table was read from end to end so far."""
    async with database.acquire() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        return Counter({row["name"]: row["seq_scan"] for row in await connection.fetch(WHOLE_READS)})


async def require_lookups(database: Database, *, since: Counter[str] | None = None) -> None:
    """AssertionError where a table was read from end to end: its statement finds no index, and costs more each day."""
    read = set(await count_whole_reads(database) - (since or Counter())) - ONE_ROW
    assert not read, f"read from end to end: {sorted(read)}"
