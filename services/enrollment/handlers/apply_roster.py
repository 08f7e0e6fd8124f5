"""A received roster file becomes coverage, in one transaction: all of it or nothing of it."""

from datetime import datetime

from services.enrollment.domain.coverage import ends_at
from services.enrollment.domain.enrolment import COVERAGE_TIMER
from services.enrollment.domain.roster import ImportGuard, judge_full_file
from services.enrollment.store.applying import (
    allow_long_work,
    apply_rows,
    count_absent,
    count_staged,
    find_ending,
    index_staged,
    reject_repeated,
    save_counts,
)
from services.enrollment.store.imports import (
    RosterImport,
    finish_import,
    hold_import,
    replace_held,
    save_rejections,
)
from shared.database import Connection
from shared.outcomes import Cause, Timer
from shared.timers import save_timers


async def apply_roster(connection: Connection, taken: RosterImport, *, guard: ImportGuard, now: datetime) -> None:
    """Apply, hold or fail a file whose sponsor the transaction has locked.

    Members whose coverage it ended are not disenrolled here: each gets a timer, which looks again under the
    member's lock.
    """
    import_id = taken.import_id
    await allow_long_work(connection)
    if await count_staged(connection, import_id=import_id) != taken.rows_accepted:
        await finish_import(connection, import_id=import_id, state="failed", reason="rows-lost-send-again", now=now)
        return
    repeated, rejections = await reject_repeated(connection, import_id=import_id)
    if repeated:
        await save_rejections(connection, import_id=import_id, rejections=rejections)
    await index_staged(connection, import_id=import_id)
    if taken.mode == "full" and taken.confirmed_by is None:
        reason = await _judge(connection, taken, guard, now)
        if reason is not None:
            await hold_import(connection, import_id=import_id, reason=reason)
            return
    await _apply(connection, taken, now)


async def _judge(connection: Connection, taken: RosterImport, guard: ImportGuard, now: datetime) -> str | None:
    found = await count_absent(connection, import_id=taken.import_id, sponsor_id=taken.sponsor_id, today=now.date())
    return judge_full_file(covered=found.covered, absent=found.absent, unreadable=taken.rows_unreadable, guard=guard)


async def _apply(connection: Connection, taken: RosterImport, now: datetime) -> None:
    import_id, sponsor_id = taken.import_id, taken.sponsor_id
    applied = await apply_rows(
        connection,
        import_id=import_id,
        sponsor_id=sponsor_id,
        today=now.date(),
        end_absent=taken.mode == "full",
        now=now,
    )
    cause = Cause(source="urn:careloop:enrollment:imports", id=str(import_id), chain=str(import_id))
    ending = 0
    async for chunk in find_ending(connection, sponsor_id=sponsor_id, import_id=import_id):
        ending += len(chunk)
        await save_timers(
            connection,
            [
                Timer(
                    kind=COVERAGE_TIMER, key=str(member_id), member_id=member_id, due_at=ends_at(last_day), cause=cause
                )
                for member_id, last_day in chunk
            ],
        )
    await save_counts(connection, import_id=import_id, applied=applied, members_ending=ending)
    await replace_held(connection, sponsor_id=sponsor_id, arrival=taken.arrival, now=now)
    await finish_import(connection, import_id=import_id, state="applied", reason=None, now=now)
