"""Timers: rows due at a clinic time, claimed in batches by any replica.

Setting or cancelling one belongs to the transaction that makes it needed or moot. Running one locks its member first,
skipping members that somebody else holds, then takes the timer rows: the same order as every other writer.

One that raises fails alone, in a savepoint. A failure that ends the whole transaction (the server cancels what takes
too long) tells nobody which timer it came of: `Caution` finds it by smaller batches and lets the others pass it.

Timers of one batch may make each other moot. The kinds run one after the other, so of a later kind only those run that
still stand as they were claimed; those of one kind are decided about together. Either way a row goes once its timer
ran, or counts a failure, only where no handler has set or cancelled it meanwhile.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson

from shared.clock import monotonic
from shared.consuming import SettleWaiting
from shared.database import HANGS_S, Connection, is_transient
from shared.dying import Attempts
from shared.member_locks import claim_members
from shared.outbox import write_outcomes
from shared.outcomes import Cause, Timer, Write
from shared.positions import ATTEMPTS_MAX
from shared.subscriptions import TimerHandler
from shared.suspect_timers import CLAIM_MAX, FAILURES_MAX, Caution, Ref, Turn
from shared.telemetry import describe_bug
from shared.writing import write

RETRY_MAX_S = 300.0
"""Longest pause of a timer whose handler raised."""
Place: TypeAlias = tuple[int, int]
"""Where a row lies: another place after each change."""

SAVE = """
insert into delivery.timers (kind, key, member_id, due_at, payload, cause)
select kind, key, member_id, due_at, payload::jsonb, cause::jsonb
from unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
    as t(kind, key, member_id, due_at, payload, cause)
order by kind, key
on conflict (kind, key) do update set member_id = excluded.member_id, due_at = excluded.due_at,
    payload = excluded.payload, cause = excluded.cause, failures = 0, retry_at = null
"""

CANCEL = "delete from delivery.timers where kind = $1 and key = any($2::text[])"

CANCEL_OTHERS = """
delete from delivery.timers t where t.kind = any($1::text[]) and t.key = any($2::text[])
    and (t.kind, t.key) not in (select * from unnest($3::text[], $4::text[]))
"""

CANCEL_OF_MEMBERS = "delete from delivery.timers where kind = any($1::text[]) and member_id = any($2::uuid[])"

# $7 says whether those named in $5 and $6 alone are meant, or all but them.
MAY_RUN = """
due_at <= $1 and kind = any($2::text[]) and failures < $3 and (retry_at is null or retry_at <= clock_timestamp())
  and ((kind, key) in (select named.kind, named.key from unnest($5::text[], $6::text[]) as named(kind, key))) = $7
"""

FIND_DUE = f"select member_id from delivery.timers where {MAY_RUN} order by due_at, kind, key limit $4"  # noqa: S608

# A safety group moves timers without the member's lock, so the rows are locked, too, before it is known what is due. A
# row's ctid names it as it is now: what the same transaction does to a timer afterwards gives it another or none.
TAKE = f"""
select ctid, kind, key, member_id, due_at, payload, cause, failures from delivery.timers
where {MAY_RUN} and member_id = any($8::uuid[]) order by due_at, kind, key limit $4 for update skip locked
"""  # noqa: S608 - only our own parts

# $1 ran and $2 failed, unless some handler has set or cancelled them meanwhile. Which of $3 still stand as claimed.
FINISH = """
with ran as (
    delete from delivery.timers where ctid = any($1::tid[])
), failed as (
    update delivery.timers set failures = failures + 1,
        retry_at = clock_timestamp() + make_interval(secs => least($4::float, power(2, failures)))
    where ctid = any($2::tid[])
)
select ctid from delivery.timers where ctid = any($3::tid[])
"""

GIVE_UP = "update delivery.timers set failures = $2 where ctid = any($1::tid[])"

# Looked up by the time alone: nearly all timers are of these kinds, and a plan that was made while there were none
# would go through them by kind, ten times a second.
DUE = "from delivery.timers where due_at <= $1 and array[kind] <@ $2::text[] and failures < $3"
COUNT_DUE, IS_ANY_DUE = f"select count(*) {DUE}", f"select exists (select {DUE})"

OVERDUE = """
select extract(epoch from $1 - due_at)::float8 from delivery.timers where due_at <= $1 and failures < $2
order by due_at limit 1
"""

COUNT_GIVEN_UP = "select count(*) from delivery.timers where due_at <= $1 and failures >= $2"


async def save_timers(connection: Connection, timers: Sequence[Timer]) -> None:
    """Set timers, or move those that exist under the same (kind, key). One statement; the last of a repeat wins."""
    await write(connection, [setting_timers(timers)])


def setting_timers(timers: Sequence[Timer]) -> Write | None:
    """As `save_timers`, to be written together with something else."""
    return Write(SAVE, _columns(timers)) if timers else None


def replacing_timers(
    *, kinds: Sequence[str], keys: Sequence[str], timers: Sequence[Timer]
) -> tuple[Write, Write | None]:
    """Set timers, and delete what else there is of these kinds under these keys: it became moot."""
    others = Write(CANCEL_OTHERS, [kinds, keys, [timer.kind for timer in timers], [timer.key for timer in timers]])
    return others, setting_timers(timers)


def _columns(timers: Sequence[Timer]) -> list[list[Any]]:
    chosen = list({(timer.kind, timer.key): timer for timer in timers}.values())
    return [
        [t.kind for t in chosen],
        [t.key for t in chosen],
        [t.member_id for t in chosen],
        [t.due_at for t in chosen],
        [orjson.dumps(dict(t.payload)).decode() for t in chosen],
        [orjson.dumps(t.cause._asdict()).decode() for t in chosen],
    ]


async def cancel_timers(connection: Connection, *, kind: str, keys: Sequence[str]) -> None:
    """Delete timers that became moot; those that do not exist are no error."""
    await write(connection, [cancelling_timers(kind=kind, keys=keys)])


def cancelling_timers(*, kind: str, keys: Sequence[str]) -> Write | None:
    """As `cancel_timers`, to be written together with something else."""
    return Write(CANCEL, [kind, keys]) if keys else None


async def cancel_member_timers(connection: Connection, *, kinds: Sequence[str], member_ids: Sequence[UUID]) -> None:
    """Delete all timers of these kinds of these members."""
    if member_ids:
        await connection.execute(CANCEL_OF_MEMBERS, kinds, member_ids)


async def count_due(connection: Connection, *, kinds: Sequence[str], now: datetime) -> int:
    """How many timers are due and not yet run."""
    count: int = await connection.fetchval(COUNT_DUE, now, kinds, FAILURES_MAX)
    return count


async def is_any_due(connection: Connection, *, kinds: Sequence[str], now: datetime) -> bool:
    """Whether there may be one to run. One statement, and no transaction while there is none."""
    found: bool = await connection.fetchval(IS_ANY_DUE, now, kinds, FAILURES_MAX)
    return found


async def load_overdue(connection: Connection, *, now: datetime) -> float:
    """Seconds of clinic time for which the oldest timer that is to run has been due; 0 where there is none."""
    return await connection.fetchval(OVERDUE, now, FAILURES_MAX) or 0.0


async def count_given_up(connection: Connection, *, now: datetime) -> int:
    """How many timers failed FAILURES_MAX times: their rows stay, and nothing runs them until one is set anew."""
    count: int = await connection.fetchval(COUNT_GIVEN_UP, now, FAILURES_MAX)
    return count


@dataclass(slots=True)
class TimersRun:
    run: int = 0
    published: int = 0
    bugs: list[str] = field(default_factory=list)


class Claimed(NamedTuple):
    timer: Timer
    failures: int
    """How often it has failed so far."""
    place: Place

    @property
    def ref(self) -> Ref:
        return (self.timer.kind, self.timer.key)


async def claim_timers(connection: Connection, *, kinds: Sequence[str], now: datetime, turn: Turn) -> list[Claimed]:
    """Lock the members of what is due, then their due timers, oldest first. The rows are left to who runs them, in this
    same transaction."""
    named = [kind for kind, _ in turn.refs], [key for _, key in turn.refs], not turn.others
    # Looks further than it takes: where members are held by somebody else, others' timers are due behind theirs.
    due = [row["member_id"] for row in await connection.fetch(FIND_DUE, now, kinds, FAILURES_MAX, CLAIM_MAX, *named)]
    if not due:
        return []
    members = await claim_members(connection, due, limit=turn.limit)
    rows = await connection.fetch(TAKE, now, kinds, FAILURES_MAX, turn.limit, *named, list(members))
    claimed = [
        Claimed(
            Timer(
                kind=row["kind"],
                key=row["key"],
                member_id=row["member_id"],
                due_at=row["due_at"],
                payload=row["payload"],
                cause=Cause(**row["cause"]),
            ),
            row["failures"],
            row["ctid"],
        )
        for row in rows
    ]
    return sorted(claimed, key=lambda one: (one.timer.due_at, *one.ref))


async def run_timers(
    connection: Connection,
    handlers: Mapping[str, TimerHandler],
    *,
    service: str,
    now: datetime,
    settle_waiting: SettleWaiting,
    caution: Caution,
    attempts: Attempts | None = None,
) -> TimersRun:
    """Claim a batch of due timers and run each kind's handler, inside the caller's transaction. A handler that raises
    is tried by halves, and the guilty timer again later with backoff. What fails the transaction as a whole is raised,
    and remembered for the next call. `attempts` where processes die of a timer: one is run at a time and each attempt
    counted, and what ends its process each time is given up."""
    if attempts is not None:
        caution.limit = caution.suspects_limit = 1
    for turn in caution.turns():
        if claimed := await claim_timers(connection, kinds=list(handlers), now=now, turn=turn):
            break
    else:
        return TimersRun()
    batch, began = _Batch(connection, handlers, service, now, TimersRun(len(claimed))), monotonic()
    if turn.is_verdict:
        await batch.condemn(claimed, caution)
        return batch.result
    refs = [one.ref for one in claimed]
    alone = f"timer {' '.join(refs[0])}"
    async with attempts.at(alone, within=connection) if attempts is not None else nullcontext(True) as may_run:
        if not may_run:
            await batch.give_up(claimed)
            return batch.result
        try:
            async with asyncio.timeout(HANGS_S):
                await batch.run(claimed)
                members = list({one.timer.member_id for one in claimed})
                with_care = attempts is not None
                batch.result.published += await settle_waiting(connection, members, now, with_care=with_care)
        except Exception as error:
            caution.note_failure(turn, refs, error, took_s=monotonic() - began)
            raise
    caution.note_success(turn, refs)
    return batch.result


@dataclass(slots=True)
class _Batch:
    connection: Connection
    handlers: Mapping[str, TimerHandler]
    service: str
    now: datetime
    result: TimersRun

    async def run(self, claimed: Sequence[Claimed]) -> None:
        by_kind: dict[str, list[Claimed]] = {}
        for one in claimed:
            by_kind.setdefault(one.timer.kind, []).append(one)
        kinds = list(by_kind.values())
        standing = kinds[0]
        for following in [*kinds[1:], []]:
            failed = await self._halve(standing) if standing else []
            guilty = {one.ref for one in failed}
            ran = [one for one in standing if one.ref not in guilty]
            places = await self._finish(ran=ran, failed=failed, following=following)
            standing = [one for one in following if one.place in places]

    async def condemn(self, claimed: Sequence[Claimed], caution: Caution) -> None:
        """Count one failure of each of these suspects. They stay suspects, apart from the others."""
        await self._finish(ran=[], failed=claimed, following=[])
        for one in claimed:
            suspect = caution.suspects[one.ref]
            self.result.bugs.append(f"{suspect.bug}, alone {suspect.blamed} times")
            suspect.blamed = 0
            suspect.not_before = monotonic() + min(RETRY_MAX_S, 2.0**one.failures)

    async def give_up(self, claimed: Sequence[Claimed]) -> None:
        """Leave these until somebody sets them anew: their process ended whenever one of them was run alone."""
        await self.connection.execute(GIVE_UP, [one.place for one in claimed], FAILURES_MAX)
        kinds = ", ".join(sorted({one.timer.kind for one in claimed}))
        self.result.bugs.append(f"{kinds}: ended its process {ATTEMPTS_MAX} times and is given up")

    async def _halve(self, claimed: list[Claimed]) -> list[Claimed]:
        """Run timers of one kind, each that can be; which cannot."""
        kind = claimed[0].timer.kind
        try:
            async with self.connection.transaction():
                outcomes = await self.handlers[kind](self.connection, [one.timer for one in claimed], now=self.now)
                # In here, as an event that cannot be built or encoded is the fault of whose handler drafted it. Ids
                # derive from the timer, so it makes no difference in which batch one is.
                self.result.published += await write_outcomes(
                    self.connection, outcomes, service=self.service, scope=kind, now=self.now
                )
            return []
        except Exception as error:
            if is_transient(error):
                raise
            if len(claimed) == 1:
                self.result.bugs.append(describe_bug(error))
                return claimed
        middle = len(claimed) // 2
        return [*await self._halve(claimed[:middle]), *await self._halve(claimed[middle:])]

    async def _finish(
        self, *, ran: Sequence[Claimed], failed: Sequence[Claimed], following: Sequence[Claimed]
    ) -> set[Place]:
        """Delete those of a kind that ran and count a failure of the others; where those of the next kind lie that
        still stand."""
        places = [[one.place for one in claimed] for claimed in (ran, failed, following)]
        return {row["ctid"] for row in await self.connection.fetch(FINISH, *places, RETRY_MAX_S)}
