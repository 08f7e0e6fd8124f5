"""The durable feed of the console: what changed, in the order in which it became visible.

Numbers come from one row, taken in the writing transaction and locked until it commits. A second writer waits for the
first, so a number is never visible before a smaller one: a reader's cursor cannot step over a row that commits late.
A sequence, or a transaction id, does not promise that. The lock is held from here to the commit; the feed is therefore
what handlers leave to be written last, and in that statement it waits until everything else is written.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.messaging.domain.feed import FeedEntry, FeedHead, FeedLook, NewFeedEntry
from services.messaging.domain.people import ONCALL_AUDIENCE
from shared.database import Connection
from shared.outcomes import Answer, Write
from shared.writing import AFTER_OTHERS, write

# Names that no other write of the same statement has. Nobody is told of an entry twice: who is named beside the care
# team may be of it, and one person may be both of it.
PARTS = f"""
feed_wanted as (
    select w.*, p.pt_id, nullif(p.coach_id, p.pt_id) as coach_id
    from unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::boolean[]) with ordinality
        as w(kind, change, member_id, subject_id, oncall, place)
    left join member_profiles p using (member_id)
), feed_top as (
    update feed_head set last_number = last_number + $8 where {AFTER_OTHERS}
    returning last_number, last_number - $8 as base
), feed_saved as (
    insert into feed (audience, number, kind, change, member_id, subject_id, entered_at)
    select a.audience, t.base + w.place, w.kind, w.change, w.member_id, w.subject_id, $10::timestamptz
    from feed_top t cross join feed_wanted w,
        lateral (values (w.pt_id), (w.coach_id), (case when w.oncall then $7::uuid end)) as a(audience)
    where a.audience is not null
    union all
    select e.audience, t.base + w.place, w.kind, w.change, w.member_id, w.subject_id, $10::timestamptz
    from feed_top t cross join unnest($6::int[], $9::uuid[]) as e(place, audience) join feed_wanted w using (place)
    where e.audience is distinct from w.pt_id and e.audience is distinct from w.coach_id
    returning audience, number, kind, change, member_id, subject_id, entered_at
)
"""  # noqa: S608 - only our own parts
# An entry that nobody may see has a number all the same.
SAVE = "select t.base, t.last_number, s.* from feed_top t left join feed_saved s on true"

COLUMNS = ("number", "kind", "change", "member_id", "subject_id", "entered_at")

# One statement, one snapshot: the entries are all there are up to the end.
LOOK = """
select h.last_number, e.* from feed_head h left join lateral (
    select audience, number, kind, change, member_id, subject_id, entered_at from feed
    where audience = any($1::uuid[]) and number > $2 order by number limit $3
) as e on true
"""

# By their place: entries are never moved.
PRUNE = """
with old as (
    delete from feed where ctid = any(array(
        select ctid from feed where entered_at < $1 order by entered_at limit $2
    )) returning number
), marked as (
    update feed_head set pruned_to = greatest(pruned_to, (select max(number) from old))
    where exists (select from old)
)
select count(*) from old
"""


async def save_feed_entries(connection: Connection, entries: Sequence[NewFeedEntry], *, now: datetime) -> None:
    """Append entries, as the last write of a command. What reacts to events leaves them to its outcomes instead: the
    hub takes what those do not tell of for nothing (api/feed.py)."""
    await write(connection, [saving_feed_entries(entries, now=now)])


def saving_feed_entries(entries: Sequence[NewFeedEntry], *, now: datetime) -> Write | None:
    """Append entries for the care team of their members, as it is before the statement, and for whoever else each
    names."""
    if not entries:
        return None
    extra = [(place, person) for place, entry in enumerate(entries, 1) for person in dict.fromkeys(entry.also)]
    columns = [
        [e.kind for e in entries],
        [e.change for e in entries],
        [e.member_id for e in entries],
        [e.subject_id for e in entries],
        [e.oncall for e in entries],
        [place for place, _ in extra],
        ONCALL_AUDIENCE,
        len(entries),
        [person for _, person in extra],
        now,
    ]
    return Write(SAVE, columns, PARTS, answers=True)


def look_at_saved(answer: Answer) -> FeedLook:
    """What a transaction has entered, from the answer of what it wrote: what a look shows once it is committed."""
    after, end = answer[0][:2]
    entries: dict[UUID, list[FeedEntry]] = {}
    for _, _, audience, *values in answer:
        if audience is not None:
            entries.setdefault(audience, []).append(_entry(values))
    return FeedLook(after=after, end=end, head=end, entries=entries)


async def look_at_feed(connection: Connection, *, audiences: Collection[UUID], after: int, limit: int) -> FeedLook:
    """What these audiences (a practitioner's own id, and ONCALL_AUDIENCE for who holds that role) have to read above
    `after`, and where the feed ends. Where it is more than `limit` rows, the first of them: a number has a row for each
    of its audiences, and the limit is to be far above that."""
    rows = await connection.fetch(LOOK, list(audiences), after, limit)
    head = end = rows[0]["last_number"]  # the migration inserts the only row of the head
    if len(rows) == limit:
        end = rows[-1]["number"] - 1  # of the last number there may be more
    entries: dict[UUID, list[FeedEntry]] = {audience: [] for audience in audiences}
    for _, audience, *values in rows:
        if audience is not None and values[0] <= end:
            entries[audience].append(_entry(values))
    return FeedLook(after=after, end=end, head=head, entries=entries)


def _entry(values: Sequence[Any]) -> FeedEntry:
    return FeedEntry(**dict(zip(COLUMNS, values, strict=True)))


async def load_feed_head(connection: Connection) -> FeedHead:
    """Number of the newest committed entry, and up to where entries were pruned."""
    row = await connection.fetchrow("select last_number, pruned_to from feed_head")
    assert row is not None, "the migration inserts the only row"
    return FeedHead(**dict(row))


async def prune_feed(connection: Connection, *, before: datetime, limit: int = 5000) -> int:
    """Delete entries older than that, at most `limit`; how many. Cursors that lie before them must start afresh."""
    return int(await connection.fetchval(PRUNE, before, limit))
