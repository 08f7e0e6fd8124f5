"""Timers: rows due at a clinic time, claimed in batches by any replica.

Setting or cancelling one belongs to the transaction that makes it needed or moot. Running one locks its member first,
skipping members that somebody else holds, then takes the timer rows: the same order as every other writer.

One that raises fails alone, in a savepoint. A failure that ends the whole transaction (the server cancels what takes
too long) tells nobody which timer it came of: `Caution` finds it by smaller batches and lets the others pass it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from shared.clock import monotonic
from shared.database import Connection, is_transient
from shared.isolating import describe_bug
from shared.member_locks import claim_members
from shared.outbox import write_outcomes
from shared.outcomes import Cause, Timer, Write
from shared.subscriptions import TimerHandler
from shared.telemetry import TIMERS_GIVEN_UP
from shared.writing import write

CLAIM_MAX = 500
"""Timers taken in one transaction."""
FAILURES_MAX = 8
"""After that many failures a timer stays, is counted and alarms; it is not tried again by itself."""
COUNT_EVERY_S = 10.0
RETRY_MAX_S = 300.0
"""Longest pause of a timer whose handler raised."""
PAUSE_MAX_S = 30.0
"""Longest pause of a timer that failed together with its transaction."""
FORGET_S = 900.0
"""A suspect that is not due for so long, such as one that was cancelled, is forgotten."""
ENDED_S = 15.0
"""The server ends a transaction that takes or idles too long (shared/database.py), and the driver only says that the
connection is gone. After so long it is taken for that."""
TOOK_TOO_LONG = (
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    TimeoutError,
)
Ref: TypeAlias = tuple[str, str]
"""(kind, key) of a timer."""

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
FIND_DUE = """
select member_id from delivery.timers
where due_at <= $1 and kind = any($2::text[]) and failures < $3 and (retry_at is null or retry_at <= clock_timestamp())
  and ((kind, key) in (select named.kind, named.key from unnest($5::text[], $6::text[]) as named(kind, key))) = $7
order by due_at, kind, key limit $4
"""

# A safety group moves timers without the member's lock, so the rows are locked, too, before it is known what is due.
TAKE = """
with due as materialized (
    select kind, key from delivery.timers
    where due_at <= $1 and kind = any($2::text[]) and failures < $3 and member_id = any($8::uuid[])
      and (retry_at is null or retry_at <= clock_timestamp())
      and ((kind, key) in (select named.kind, named.key from unnest($5::text[], $6::text[]) as named(kind, key))) = $7
    order by due_at, kind, key limit $4 for update skip locked
)
delete from delivery.timers t using due where t.kind = due.kind and t.key = due.key
returning t.kind, t.key, t.member_id, t.due_at, t.payload, t.cause, t.failures
"""

KEEP_FAILED = """
update delivery.timers t set failures = f.failures + 1,
    retry_at = clock_timestamp() + make_interval(secs => least($4::float, power(2, f.failures)))
from unnest($1::text[], $2::text[], $3::int[]) as f(kind, key, failures) where t.kind = f.kind and t.key = f.key
"""

COUNT_DUE = "select count(*) from delivery.timers where due_at <= $1 and kind = any($2::text[]) and failures < $3"

IS_ANY_DUE = """
select exists (select from delivery.timers where due_at <= $1 and kind = any($2::text[]) and failures < $3)
"""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Which timers are claimed next: those of `refs`, or with `others` all but them."""

    refs: Sequence[Ref] = ()
    others: bool = True
    limit: int = CLAIM_MAX
    is_verdict: bool = False
    """They failed alone too often: claimed to have that written down, not to run."""


@dataclass(slots=True)
class Suspect:
    """A timer that was alone in a transaction that failed as a whole."""

    failed: int = 0
    blamed: int = 0
    """How often the failure was its own: it took too long, or raised what is not the world's."""
    bug: str = ""
    not_before: float = 0.0


@dataclass(slots=True)
class Caution:
    """What a process remembers of transactions that failed as a whole.

    The next batch is half as large, down to one timer. That one becomes a suspect: it is claimed apart, in turn with
    all others and after a pause, so it delays them by one attempt at a time. Batches that go well double again, those
    of suspects too, for after an outage everything may be suspect. Lost with the process: the search starts again.
    """

    limit: int = CLAIM_MAX
    suspects_limit: int = 1
    suspects: dict[Ref, Suspect] = field(default_factory=dict)
    suspects_next: bool = False
    count_at: float = 0.0

    def turns(self) -> list[Turn]:
        """What to claim, the next one if nothing of the first is due."""
        at = monotonic()
        self.suspects = {ref: one for ref, one in self.suspects.items() if at < one.not_before + FORGET_S}
        ready = {ref: one for ref, one in self.suspects.items() if one.not_before <= at}
        judged = [ref for ref, one in ready.items() if one.blamed >= FAILURES_MAX]
        turns = [Turn(refs=list(self.suspects), limit=self.limit)]
        if ready:
            turns.insert(
                0 if self.suspects_next else 1, Turn(refs=list(ready), others=False, limit=self.suspects_limit)
            )
        if judged:
            turns.insert(0, Turn(refs=judged, others=False, is_verdict=True))
        return turns

    def note_failure(self, turn: Turn, claimed: Sequence[Ref], error: Exception, *, took_s: float) -> None:
        """The transaction that claimed these fails."""
        self.suspects_next = False
        if len(claimed) > 1:
            self._set_limit(turn, len(claimed) // 2)
            return
        suspect = self.suspects.setdefault(claimed[0], Suspect())
        suspect.failed += 1
        suspect.blamed += isinstance(error, TOOK_TOO_LONG) or not is_transient(error) or took_s >= ENDED_S
        suspect.bug = describe_bug(error)
        suspect.not_before = monotonic() + min(PAUSE_MAX_S, 2.0 ** min(suspect.failed, 10))

    def note_success(self, turn: Turn, claimed: Iterable[Ref]) -> None:
        """What these did is about to be committed."""
        self.suspects_next = turn.others
        self._set_limit(turn, min(CLAIM_MAX, 2 * (self.limit if turn.others else self.suspects_limit)))
        for ref in claimed:
            self.suspects.pop(ref, None)

    def _set_limit(self, turn: Turn, limit: int) -> None:
        if turn.others:
            self.limit = limit
        else:
            self.suspects_limit = limit


_CAUTION: dict[str, Caution] = {}
"""By service: a process has one loop that runs the timers of one."""


async def claim_timers(
    connection: Connection, *, kinds: Sequence[str], now: datetime, turn: Turn = Turn()
) -> list[tuple[Timer, int]]:
    """Lock the members of what is due, then take their due timers, oldest first, each with how often it has failed. The
    rows are deleted by this transaction."""
    named = [kind for kind, _ in turn.refs], [key for _, key in turn.refs], not turn.others
    # Looks further than it takes: where members are held by somebody else, others' timers are due behind theirs.
    due = [row["member_id"] for row in await connection.fetch(FIND_DUE, now, kinds, FAILURES_MAX, CLAIM_MAX, *named)]
    if not due:
        return []
    members = await claim_members(connection, due, limit=turn.limit)
    rows = await connection.fetch(TAKE, now, kinds, FAILURES_MAX, turn.limit, *named, list(members))
    claimed = [
        (
            Timer(
                kind=row["kind"],
                key=row["key"],
                member_id=row["member_id"],
                due_at=row["due_at"],
                payload=row["payload"],
                cause=Cause(**row["cause"]),
            ),
            row["failures"],
        )
        for row in rows
    ]
    return sorted(claimed, key=lambda pair: (pair[0].due_at, pair[0].kind, pair[0].key))


async def run_timers(
    connection: Connection,
    handlers: Mapping[str, TimerHandler],
    *,
    service: str,
    now: datetime,
    settle_waiting: Callable[[Connection, Sequence[UUID], datetime], Awaitable[int]],
    caution: Caution | None = None,
) -> TimersRun:
    """Claim a batch of due timers and run each kind's handler, inside the caller's transaction. A handler that raises
    is tried by halves, and the guilty timer again later with backoff. What fails the transaction as a whole is raised,
    and remembered for the next call."""
    caution = caution or _CAUTION.setdefault(service, Caution())
    if monotonic() >= caution.count_at:
        caution.count_at = monotonic() + COUNT_EVERY_S
        TIMERS_GIVEN_UP.labels(service).set(await count_given_up(connection, now=now))
    for turn in caution.turns():
        if claimed := await claim_timers(connection, kinds=list(handlers), now=now, turn=turn):
            break
    else:
        return TimersRun()
    batch = _Batch(connection, handlers, service, now, {_ref(timer): failed for timer, failed in claimed})
    timers, began = [timer for timer, _ in claimed], monotonic()
    if turn.is_verdict:
        await batch.condemn(timers, caution)
        return batch.result
    try:
        await batch.run(timers)
        members = list({timer.member_id for timer in timers})
        batch.result.published += await settle_waiting(connection, members, now)
    except Exception as error:
        caution.note_failure(turn, [_ref(timer) for timer in timers], error, took_s=monotonic() - began)
        raise
    caution.note_success(turn, map(_ref, timers))
    return batch.result


@dataclass(slots=True)
class _Batch:
    connection: Connection
    handlers: Mapping[str, TimerHandler]
    service: str
    now: datetime
    failures: Mapping[Ref, int]
    result: TimersRun = field(default_factory=TimersRun)

    async def run(self, timers: Sequence[Timer]) -> None:
        self.result.run = len(timers)
        by_kind: dict[str, list[Timer]] = {}
        for timer in timers:
            by_kind.setdefault(timer.kind, []).append(timer)
        failed = [guilty for of_kind in by_kind.values() for guilty in await self._halve(of_kind)]
        await self._keep_failed(failed)

    async def condemn(self, timers: Sequence[Timer], caution: Caution) -> None:
        """Count one failure of each of these suspects. They stay suspects, apart from the others."""
        self.result.run = len(timers)
        await self._keep_failed(timers)
        for timer in timers:
            suspect = caution.suspects[_ref(timer)]
            self.result.bugs.append(f"{suspect.bug}, alone {suspect.blamed} times")
            suspect.blamed = 0
            suspect.not_before = monotonic() + min(RETRY_MAX_S, 2.0 ** self.failures[_ref(timer)])

    async def _halve(self, timers: list[Timer]) -> list[Timer]:
        """Run timers of one kind, each that can be; which cannot."""
        try:
            async with self.connection.transaction():
                outcomes = await self.handlers[timers[0].kind](self.connection, timers, now=self.now)
                # In here, as an event that cannot be built or encoded is the fault of whose handler drafted it. Ids
                # derive from the timer, so it makes no difference in which batch one is.
                self.result.published += await write_outcomes(
                    self.connection, outcomes, service=self.service, scope=timers[0].kind, now=self.now
                )
            return []
        except Exception as error:
            if is_transient(error):
                raise
            if len(timers) == 1:
                self.result.bugs.append(describe_bug(error))
                return timers
        middle = len(timers) // 2
        return [*await self._halve(timers[:middle]), *await self._halve(timers[middle:])]

    async def _keep_failed(self, failed: Sequence[Timer]) -> None:
        if failed:
            await save_timers(self.connection, failed)
            kinds, keys = [t.kind for t in failed], [t.key for t in failed]
            failures = [self.failures[_ref(t)] for t in failed]
            await self.connection.execute(KEEP_FAILED, kinds, keys, failures, RETRY_MAX_S)


def _ref(timer: Timer) -> Ref:
    return (timer.kind, timer.key)
