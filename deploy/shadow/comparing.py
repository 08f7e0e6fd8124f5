"""What a shadow came to, beside what the live service did."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.database import Connection

BOOKS = """
select consumer_group, sum(records_read)::bigint as read, sum(records_new)::bigint as new,
    sum(records_duplicate)::bigint as duplicate, sum(records_refused)::bigint as refused,
    sum(records_dead)::bigint as dead, sum(records_parked)::bigint as parked,
    sum(records_waiting)::bigint as waiting
from delivery.positions group by consumer_group order by consumer_group
"""
HELD = "select consumer_group, state, count(*) as events from delivery.held_events group by 1, 2"
PUBLISHED = """
select convert_from(value, 'UTF8')::json->>'type' as type, count(*) as events
from delivery.outbox group by 1 order by 1
"""
READ = """
select distinct on (r.identity) r.identity, r.place, i.outcome
from public.shadow_read r join delivery.inbox i on i.identity = r.identity
where r.consumer_group = $1 and r.identity > $2 order by r.identity limit $3
"""
INDEX = "create index if not exists shadow_read_identity on public.shadow_read (consumer_group, identity)"
OUTCOMES = "select identity, outcome from delivery.inbox where identity = any($1::bytea[])"
PAGE = 5_000
NOT_TAKEN = "not taken"


@dataclass
class Rebuilt:
    """What became of one consumer group's records, and where the live service has another outcome."""

    consumer_group: str
    books: dict[str, int]
    held: dict[str, int] = field(default_factory=dict)
    """What is still held at the end, by state."""
    same: int = 0
    """Events with the same outcome in both."""
    different: dict[str, int] = field(default_factory=dict)
    """Such as `applied, live: dead`, and how many."""


@dataclass
class Rebuild:
    groups: list[Rebuilt] = field(default_factory=list)
    published: dict[str, int] = field(default_factory=dict)
    """Events that it would have published, by type."""


async def compare(shadow: Connection, live: Connection, groups: Iterable[str]) -> Rebuild:
    """Add up the shadow's books and hold its outcomes against the live inbox, event by event."""
    rebuild = Rebuild(published={row["type"]: row["events"] for row in await shadow.fetch(PUBLISHED)})
    books = {row["consumer_group"]: dict(row) for row in await shadow.fetch(BOOKS)}
    held: dict[str, dict[str, int]] = {}
    for row in await shadow.fetch(HELD):
        held.setdefault(row["consumer_group"], {})[row["state"]] = row["events"]
    await shadow.execute(INDEX)
    for group in sorted(groups):
        figures = books.get(group, {"consumer_group": group})
        del figures["consumer_group"]
        rebuilt = Rebuilt(group, figures, held.get(group, {}))
        rebuilt.same, rebuilt.different = await _compare_group(shadow, live, group)
        rebuild.groups.append(rebuilt)
    return rebuild


async def _compare_group(shadow: Connection, live: Connection, group: str) -> tuple[int, dict[str, int]]:
    pairs: Counter[tuple[str, str]] = Counter()
    after = b""
    while rows := await shadow.fetch(READ, group, after, PAGE):
        # One that could not be read on one side is known there by its place in the log alone.
        wanted = [key for row in rows for key in (row["identity"], row["place"])]
        known = {row["identity"]: row["outcome"] for row in await live.fetch(OUTCOMES, wanted)}
        for row in rows:
            outcome = known.get(row["identity"]) or known.get(row["place"]) or NOT_TAKEN
            pairs[(row["outcome"], outcome)] += 1
        after = rows[-1]["identity"]
    same = sum(count for (here, there), count in pairs.items() if here == there)
    return same, {f"{here}, live: {there}": n for (here, there), n in sorted(pairs.items()) if here != there}
