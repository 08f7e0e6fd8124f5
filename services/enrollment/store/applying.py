"""The statements that turn a received file into coverage. All run in one transaction, each once per file.

The names of tables are put into the text because a table cannot be a parameter; they are hexadecimal digits we made.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from services.enrollment.domain.roster import Rejection
from services.enrollment.store.imports import APPLY_TIMEOUT_S, REJECTIONS_KEPT_MAX, Applied, staging_table
from shared.database import Connection, read_whole_tables

CHUNK: Final = 5_000
COUNT = """
update roster_imports set persons_added = $2, persons_changed = $3, persons_unchanged = $4, persons_ended = $5,
    members_ending = $6 where import_id = $1
"""
REJECT_MORE = """
update roster_imports set rows_accepted = rows_accepted - $2, rows_rejected = rows_rejected + $2
where import_id = $1
"""
# Members whose coverage has an end: of one file's changes, or of the whole sponsor. Read by a cursor: there may be
# hundreds of thousands.
ENDING = """
select m.member_id, least(c.effective_to, s.covers_until) as last_day
from coverages c join memberships m using (sponsor_id, person_id) join sponsors s using (sponsor_id)
where c.sponsor_id = $1 and ($2::uuid is null or c.changed_by = $2)
  and least(c.effective_to, s.covers_until) is not null and m.status in ('enrolled', 'paused', 'waitlisted')
"""


@dataclass(frozen=True, slots=True)
class Absent:
    """A full file against the roster as it stands."""

    covered: int
    absent: int


async def allow_long_work(connection: Connection) -> None:
    """Lift the limits of an ordinary transaction for this one: a file of millions takes minutes, and whole tables."""
    await read_whole_tables(connection)
    await connection.execute("set local transaction_timeout = 0")
    await connection.execute(f"set local statement_timeout = '{APPLY_TIMEOUT_S}s'")


async def count_staged(connection: Connection, *, import_id: UUID) -> int:
    """Accepted rows of the file. Fewer than were sent: the unlogged table was emptied by a crash of the database."""
    table = staging_table(import_id)
    if not await connection.fetchval("select to_regclass($1) is not null", table):
        return 0
    count: int = await connection.fetchval(
        f"select count(*) from {table} where not rejected",  # noqa: S608
        timeout=APPLY_TIMEOUT_S,
    )
    return count


async def reject_repeated(connection: Connection, *, import_id: UUID) -> tuple[int, list[Rejection]]:
    """Take out all but the first row of each person; how many, and the first of them as rejections."""
    table = staging_table(import_id)
    rows = await connection.fetch(
        f"""
        with repeated as (
            select line from (
                select line, row_number() over (partition by person_id order by line) as place
                from {table} where not rejected
            ) as placed where place > 1
        ), gone as (
            update {table} s set rejected = true from repeated r where s.line = r.line returning s.line
        )
        select line, count(*) over () as total from gone order by line limit {REJECTIONS_KEPT_MAX}
        """,  # noqa: S608
        timeout=APPLY_TIMEOUT_S,
    )
    total = rows[0]["total"] if rows else 0
    if total:
        await connection.execute(REJECT_MORE, import_id, total)
    return total, [Rejection(row["line"], "person_id", "same-person-twice") for row in rows]


async def index_staged(connection: Connection, *, import_id: UUID) -> None:
    table = staging_table(import_id)
    await connection.execute(
        f"create index if not exists {table}_person on {table} (person_id)", timeout=APPLY_TIMEOUT_S
    )
    await connection.execute(f"analyze {table}", timeout=APPLY_TIMEOUT_S)


async def count_absent(connection: Connection, *, import_id: UUID, sponsor_id: UUID, today: date) -> Absent:
    """How many are covered now, and how many of them the file does not name in any row, taken or rejected."""
    row = await connection.fetchrow(
        f"""
        select count(*) as covered,
               count(*) filter (where not exists (
                   select from {staging_table(import_id)} s where s.person_id = c.person_id)) as absent
        from coverages c where c.sponsor_id = $1 and (c.effective_to is null or c.effective_to > $2 and
        c.effective_to >= c.effective_from)
        """,  # noqa: S608
        sponsor_id,
        today,
        timeout=APPLY_TIMEOUT_S,
    )
    assert row is not None
    return Absent(covered=row["covered"], absent=row["absent"])


async def apply_rows(
    connection: Connection, *, import_id: UUID, sponsor_id: UUID, today: date, end_absent: bool, now: datetime
) -> Applied:
    """Write the file's rows over the roster; with `end_absent`, coverage of whom it does not name ends today."""
    table = staging_table(import_id)
    written = await connection.fetchrow(
        f"""
        with written as (
            insert into coverages (sponsor_id, person_id, date_of_birth, state, effective_from, effective_to,
                                   changed_by, changed_at)
            select $1, person_id, date_of_birth, state, effective_from, effective_to, $2, $3
            from {table} where not rejected order by person_id
            on conflict (sponsor_id, person_id) do update set date_of_birth = excluded.date_of_birth,
                state = excluded.state, effective_from = excluded.effective_from,
                effective_to = excluded.effective_to, changed_by = excluded.changed_by, changed_at = excluded.changed_at
            where (coverages.date_of_birth, coverages.state, coverages.effective_from, coverages.effective_to)
                is distinct from (excluded.date_of_birth, excluded.state, excluded.effective_from,
                excluded.effective_to)
            returning old.person_id is null as added
        )
        select count(*) filter (where added) as added, count(*) filter (where not added) as changed,
               (select count(*) from {table} where not rejected) as accepted from written
        """,  # noqa: S608
        sponsor_id,
        import_id,
        now,
        timeout=APPLY_TIMEOUT_S,
    )
    assert written is not None
    ended = 0
    if end_absent:
        status: str = await connection.execute(
            f"""
            update coverages c set effective_to = greatest($2, c.effective_from - 1), changed_by = $3, changed_at = $4
            where c.sponsor_id = $1 and (c.effective_to is null or c.effective_to > $2 and c.effective_to >=
            c.effective_from)
              and not exists (select from {table} s where s.person_id = c.person_id)
            """,  # noqa: S608
            sponsor_id,
            today,
            import_id,
            now,
            timeout=APPLY_TIMEOUT_S,
        )
        ended = int(status.removeprefix("UPDATE "))
    return Applied(
        added=written["added"],
        changed=written["changed"],
        unchanged=written["accepted"] - written["added"] - written["changed"],
        ended=ended,
    )


async def find_ending(
    connection: Connection, *, sponsor_id: UUID, import_id: UUID | None = None
) -> AsyncIterator[list[tuple[UUID, date]]]:
    """Members in care or waiting whose coverage has an end, and its last day, in chunks: those that this file
    changed, or all of the sponsor."""
    chunk: list[tuple[UUID, date]] = []
    async for row in connection.cursor(ENDING, sponsor_id, import_id, prefetch=CHUNK, timeout=APPLY_TIMEOUT_S):
        chunk.append((row["member_id"], row["last_day"]))
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def save_counts(connection: Connection, *, import_id: UUID, applied: Applied, members_ending: int) -> None:
    await connection.execute(
        COUNT, import_id, applied.added, applied.changed, applied.unchanged, applied.ended, members_ending
    )
