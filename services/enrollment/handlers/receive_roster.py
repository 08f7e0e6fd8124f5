"""A roster file arrives: read, checked row by row and streamed into the database, in bounded memory.

Nothing is decided here: the rows wait until apply_roster writes them over the roster in one transaction.
"""

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Final
from uuid import UUID

from services.enrollment.domain.roster import Columns, HeaderRefusal, Rejection, RosterRow, read_header, read_row
from services.enrollment.domain.roster_file import FileRecord, RosterReader
from services.enrollment.store.applying import allow_long_work
from services.enrollment.store.imports import (
    ImportMode,
    RowCounts,
    copy_line,
    copy_rows,
    create_import,
    finish_import,
    mark_received,
)
from shared.database import Connection, Database

ROWS_PER_BLOCK: Final = 1_000


class RosterStream:
    """The rows of a file, from blocks of bytes to blocks of COPY text."""

    def __init__(self, blocks: AsyncIterator[bytes], *, today: date) -> None:
        self._blocks, self._today = blocks, today
        self._reader = RosterReader()
        self._first: list[FileRecord] = []  # came in the header's block
        self._ended = False
        self.counts = RowCounts()

    async def read_header(self) -> Columns | HeaderRefusal:
        """Read up to the first record, the header."""
        while not self._first and not self._ended:
            self._first += await self._next()
        if not self._first:
            return HeaderRefusal("file", "empty")
        header = self._first.pop(0)
        if header.fault:
            return HeaderRefusal("header", header.fault)
        columns = read_header(fields=header.fields)
        if isinstance(columns, Columns):
            self.counts.ignored_columns = columns.ignored
        return columns

    async def copy_blocks(self, columns: Columns) -> AsyncIterator[bytes]:
        records, lines = self._first, []
        while True:
            for record in records:
                lines.append(copy_line(self._read(record, columns)))
                if len(lines) == ROWS_PER_BLOCK:
                    yield "".join(lines).encode()
                    lines = []
            if self._ended:
                break
            records = await self._next()
        yield "".join(lines).encode()

    def _read(self, record: FileRecord, columns: Columns) -> RosterRow | Rejection:
        counts = self.counts
        counts.read += 1
        row = (
            Rejection(record.line, "row", record.fault)
            if record.fault
            else read_row(line=record.line, fields=record.fields, columns=columns, today=self._today)
        )
        if isinstance(row, Rejection):
            counts.reject(row, lines=record.lines)
        else:
            counts.accepted += 1
        return row

    async def _next(self) -> list[FileRecord]:
        try:
            return list(self._reader.feed(await anext(self._blocks)))
        except StopAsyncIteration:
            self._ended = True
            return list(self._reader.end())


async def receive_roster(
    database: Database,
    *,
    blocks: AsyncIterator[bytes],
    import_id: UUID,
    sponsor_id: UUID,
    mode: ImportMode,
    rows_announced: int | None,
    received_by: str,
    now: datetime,
) -> HeaderRefusal | None:
    """Take a file in. None when it was received and will be applied; otherwise what is wrong with it as a whole.

    A stream that breaks off leaves a failed import and no rows; whatever it raised is raised on.
    """
    stream = RosterStream(blocks, today=now.date())
    columns = await stream.read_header()
    if isinstance(columns, HeaderRefusal):
        return columns
    async with database.acquire(timeout=10) as connection:
        async with connection.transaction():
            await create_import(
                connection, import_id=import_id, sponsor_id=sponsor_id, mode=mode, received_by=received_by, now=now
            )
        try:
            async with connection.transaction():
                await allow_long_work(connection)
                await copy_rows(connection, import_id=import_id, blocks=stream.copy_blocks(columns))
                refusal = _judge_whole(stream.counts, rows_announced)
                if refusal is None:
                    await mark_received(connection, import_id=import_id, counts=stream.counts)
                else:
                    await finish_import(connection, import_id=import_id, state="failed", reason=refusal.reason, now=now)
                return refusal
        except BaseException:
            await _give_up(connection, import_id, now)
            raise


def _judge_whole(counts: RowCounts, rows_announced: int | None) -> HeaderRefusal | None:
    if counts.accepted == 0:
        return HeaderRefusal("file", "no-row-can-be-taken" if counts.read else "no-rows")
    if rows_announced is not None and rows_announced != counts.read:
        return HeaderRefusal("rows", "not-as-many-as-announced")
    return None


async def _give_up(connection: Connection, import_id: UUID, now: datetime) -> None:
    """The upload broke off. When this cannot be written either, the housekeeping finds it later."""
    if not connection.is_closed():
        async with connection.transaction():
            await finish_import(connection, import_id=import_id, state="failed", reason="upload-interrupted", now=now)
