"""Roster files: their rows while they wait, what became of them, and the one transaction that applies them.

Rows travel as COPY text, never as one statement a row. A file's rows lie in an unlogged table of their own until it is
applied or given up, so that millions of rows leave nothing to vacuum behind.
"""

from collections.abc import AsyncIterable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg

from services.enrollment.domain.roster import Rejection, RosterRow
from shared.database import Connection

ImportMode = Literal["full", "delta"]
ImportState = Literal["receiving", "received", "held", "applied", "failed", "discarded", "replaced"]
REJECTIONS_KEPT_MAX: Final = 10_000
"""Rejected rows listed per file; all are counted."""
APPLY_TIMEOUT_S: Final = 1_800
"""Longest one apply may take: 5 million rows take a few minutes."""
COPY_COLUMNS: Final = ("line", "person_id", "date_of_birth", "state", "effective_from", "effective_to", "rejected")

CREATE = """
insert into roster_imports (import_id, sponsor_id, mode, state, received_by, received_at)
values ($1, $2, $3, 'receiving', $4, $5)
"""
RECEIVED = """
update roster_imports set state = 'received', ignored_columns = $2, rows_read = $3, rows_accepted = $4,
    rows_rejected = $5,
    rows_unreadable = $6 where import_id = $1
"""
FINISH = "update roster_imports set state = $2, reason = $3, finished_at = $4 where import_id = $1"
CONFIRM = """
update roster_imports set state = 'received', reason = null, confirmed_by = $2 where import_id = $1 and state = 'held'
"""
SAVE_REJECTIONS = """
insert into roster_rejections (import_id, line, field, reason)
select $1, line, field, reason from unnest($2::bigint[], $3::text[], $4::text[]) as r(line, field, reason)
"""
LOAD = """
select import_id, sponsor_id, mode, state, reason, received_at, finished_at, confirmed_by, ignored_columns, rows_read,
       rows_accepted, rows_rejected, rows_unreadable, persons_added, persons_changed, persons_unchanged, persons_ended,
       members_ending, arrival
from roster_imports where import_id = any($1::uuid[])
"""
LIST = """
select import_id, sponsor_id, mode, state, reason, received_at, finished_at, confirmed_by, ignored_columns, rows_read,
       rows_accepted, rows_rejected, rows_unreadable, persons_added, persons_changed, persons_unchanged, persons_ended,
       members_ending, arrival
from roster_imports where sponsor_id = $1 and arrival < $2 order by arrival desc limit $3
"""
LOAD_REJECTIONS = """
select line, field, reason from roster_rejections where import_id = $1 and line > $2 order by line limit $3
"""
# The oldest received file whose sponsor nobody else is working on. Files of one sponsor are applied in order of
# arrival.
TAKE = """
select i.import_id from roster_imports i join sponsors s using (sponsor_id)
where i.state = 'received'
  and i.sponsor_id <> all($1::uuid[])
  and not exists (select from roster_imports e where e.sponsor_id = i.sponsor_id and e.state = 'received'
                  and e.arrival < i.arrival)
order by i.arrival limit 1 for no key update of s skip locked
"""
# One that was confirmed while the newer one was being applied was held until then.
REPLACE_HELD = """
update roster_imports set state = 'replaced', finished_at = $3
where sponsor_id = $1 and (state = 'held' or state = 'received' and confirmed_by is not null) and arrival < $2
returning import_id
"""
ABANDONED = """
update roster_imports set state = 'failed', reason = 'upload-interrupted', finished_at = $1
where state = 'receiving' and started_at < clock_timestamp() - make_interval(secs => $2) returning import_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterImport:
    import_id: UUID
    sponsor_id: UUID
    mode: ImportMode
    state: ImportState
    reason: str | None
    received_at: datetime
    finished_at: datetime | None
    confirmed_by: str | None
    ignored_columns: tuple[str, ...]
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    rows_unreadable: int
    persons_added: int
    persons_changed: int
    persons_unchanged: int
    persons_ended: int
    members_ending: int
    arrival: int


@dataclass(slots=True)
class RowCounts:
    """What a file held, while it is read. Rejections beyond REJECTIONS_KEPT_MAX are counted, not kept."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    unreadable: int = 0
    ignored_columns: tuple[str, ...] = ()
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, rejection: Rejection, *, lines: int = 1) -> None:
        """`lines` of the file that the row took: more than one may have been several people's, tied by a stray
        quote."""
        self.rejected += 1
        self.unreadable += rejection.person_id is None or lines > 1
        if len(self.rejections) < REJECTIONS_KEPT_MAX:
            self.rejections.append(rejection)


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    added: int
    changed: int
    unchanged: int
    ended: int


def staging_table(import_id: UUID) -> str:
    """Name of the table that holds this file's rows. Hexadecimal digits only: safe in a statement."""
    return f"roster_staging_{import_id.hex}"


async def create_import(
    connection: Connection, *, import_id: UUID, sponsor_id: UUID, mode: ImportMode, received_by: str, now: datetime
) -> None:
    await connection.execute(CREATE, import_id, sponsor_id, mode, received_by, now)
    # With defaults, for columns that the next release may have added: COPY names those of this one.
    like = "like roster_staging including defaults"
    await connection.execute(f"create unlogged table {staging_table(import_id)} ({like})")


async def copy_rows(connection: Connection, *, import_id: UUID, blocks: AsyncIterable[bytes]) -> None:
    """Stream blocks of COPY text (see copy_line) into the file's table, as fast as the database takes them."""
    await connection.copy_to_table(
        staging_table(import_id), source=blocks, columns=COPY_COLUMNS, format="text", timeout=APPLY_TIMEOUT_S
    )


def copy_line(row: RosterRow | Rejection) -> str:
    """One row as COPY text. A rejected row goes along to say whose it was. Values were checked: no tab, no
    backslash."""
    if isinstance(row, Rejection):
        return f"{row.line}\t{row.person_id or chr(92) + 'N'}\t\\N\t\\N\t\\N\t\\N\tt\n"
    ends = row.effective_to or "\\N"
    return f"{row.line}\t{row.person_id}\t{row.date_of_birth}\t{row.state}\t{row.effective_from}\t{ends}\tf\n"


async def mark_received(connection: Connection, *, import_id: UUID, counts: RowCounts) -> None:
    await save_rejections(connection, import_id=import_id, rejections=counts.rejections)
    await connection.execute(
        RECEIVED, import_id, counts.ignored_columns, counts.read, counts.accepted, counts.rejected, counts.unreadable
    )


async def save_rejections(connection: Connection, *, import_id: UUID, rejections: Sequence[Rejection]) -> None:
    if rejections:
        await connection.execute(
            SAVE_REJECTIONS,
            import_id,
            [r.line for r in rejections],
            [r.field for r in rejections],
            [r.reason for r in rejections],
        )


async def finish_import(
    connection: Connection, *, import_id: UUID, state: ImportState, reason: str | None, now: datetime
) -> None:
    """The end of a file: its rows are dropped with it."""
    await connection.execute(FINISH, import_id, state, reason, now)
    await drop_rows(connection, import_ids=[import_id])


async def hold_import(connection: Connection, *, import_id: UUID, reason: str) -> None:
    """Keep the rows and wait for somebody to confirm or discard."""
    await connection.execute(FINISH, import_id, "held", reason, None)


async def confirm_import(connection: Connection, *, import_id: UUID, confirmed_by: str) -> bool:
    """False when it is not held (any more)."""
    status: str = await connection.execute(CONFIRM, import_id, confirmed_by)
    return status == "UPDATE 1"


async def load_imports(connection: Connection, *, import_ids: Sequence[UUID]) -> dict[UUID, RosterImport]:
    return {row["import_id"]: _import(row) for row in await connection.fetch(LOAD, import_ids)}


async def list_imports(connection: Connection, *, sponsor_id: UUID, before: int, limit: int) -> list[RosterImport]:
    """A sponsor's files, latest first."""
    return [_import(row) for row in await connection.fetch(LIST, sponsor_id, before, limit)]


async def load_rejections(connection: Connection, *, import_id: UUID, after_line: int, limit: int) -> list[Rejection]:
    rows = await connection.fetch(LOAD_REJECTIONS, import_id, after_line, limit)
    return [Rejection(row["line"], row["field"], row["reason"]) for row in rows]


async def take_received(connection: Connection, *, but: Collection[UUID] = ()) -> RosterImport | None:
    """The next file to apply, its sponsor locked until the transaction ends, and none of these sponsors; None when
    there is none."""
    import_id = await connection.fetchval(TAKE, list(but))
    if import_id is None:
        return None
    # Read again under the lock: another replica may have applied it between the look and the lock.
    taken = (await load_imports(connection, import_ids=[import_id]))[import_id]
    return taken if taken.state == "received" else None


async def replace_held(connection: Connection, *, sponsor_id: UUID, arrival: int, now: datetime) -> None:
    """A newer file makes those moot that waited for a confirmation: an older one never goes over a newer one."""
    rows = await connection.fetch(REPLACE_HELD, sponsor_id, arrival, now)
    await drop_rows(connection, import_ids=[row["import_id"] for row in rows])


async def give_up_abandoned(connection: Connection, *, older_s: int, now: datetime) -> int:
    """Uploads whose process died: failed, their rows dropped. How many."""
    rows = await connection.fetch(ABANDONED, now, older_s)
    await drop_rows(connection, import_ids=[row["import_id"] for row in rows])
    return len(rows)


async def drop_rows(connection: Connection, *, import_ids: Sequence[UUID]) -> None:
    for import_id in import_ids:
        await connection.execute(f"drop table if exists {staging_table(import_id)}")


async def count_unapplied(connection: Connection) -> int:
    """Files received whole and not applied yet."""
    count: int = await connection.fetchval("select count(*) from roster_imports where state = 'received'")
    return count


async def count_held(connection: Connection) -> int:
    """Files that wait for somebody to confirm or discard them."""
    count: int = await connection.fetchval("select count(*) from roster_imports where state = 'held'")
    return count


def _import(row: asyncpg.Record) -> RosterImport:
    fields = dict(row)
    return RosterImport(**{**fields, "ignored_columns": tuple(fields["ignored_columns"])})
