"""Timers: rows due at a clinic time, claimed in batches by any replica.

Setting or cancelling one belongs to the transaction that makes it needed or moot. Running one locks its member first,
skipping members that somebody else holds, then takes the timer rows: the same order as every other writer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

import orjson

from shared.database import Connection, is_transient
from shared.isolating import describe_bug
from shared.member_locks import claim_members
from shared.outbox import put_in_outbox
from shared.outcomes import Cause, Outcomes, Timer
from shared.subscriptions import TimerHandler

CLAIM_MAX = 500
"""Timers taken in one transaction."""
FAILURES_MAX = 8
"""After that many failures a timer stays, is counted and alarms; it is not tried again by itself."""

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

CANCEL_OF_MEMBERS = "delete from delivery.timers where kind = any($1::text[]) and member_id = any($2::uuid[])"

FIND_DUE = """
select member_id from delivery.timers
where due_at <= $1 and kind = any($2::text[]) and failures < $3 and (retry_at is null or retry_at <= clock_timestamp())
order by due_at limit $4
"""

TAKE = """
delete from delivery.timers
where (kind, key) in (
    select kind, key from delivery.timers
    where due_at <= $1 and kind = any($2::text[]) and failures < $3 and member_id = any($4::uuid[])
      and (retry_at is null or retry_at <= clock_timestamp())
    order by due_at, kind, key limit $5
)
returning kind, key, member_id, due_at, payload, cause, failures
"""

KEEP_FAILED = """
update delivery.timers t set failures = f.failures + 1,
    retry_at = clock_timestamp() + make_interval(secs => least(300, power(2, f.failures)))
from unnest($1::text[], $2::text[], $3::int[]) as f(kind, key, failures) where t.kind = f.kind and t.key = f.key
"""

COUNT_DUE = "select count(*) from delivery.timers where due_at <= $1 and kind = any($2::text[]) and failures < $3"


async def save_timers(connection: Connection, timers: Sequence[Timer]) -> None:
    """Set timers, or move those that exist under the same (kind, key). One statement; the last of a repeat wins."""
    last = {(timer.kind, timer.key): timer for timer in timers}
    if last:
        chosen = list(last.values())
        await connection.execute(
            SAVE,
            [t.kind for t in chosen],
            [t.key for t in chosen],
            [t.member_id for t in chosen],
            [t.due_at for t in chosen],
            [orjson.dumps(dict(t.payload)).decode() for t in chosen],
            [orjson.dumps(asdict(t.cause)).decode() for t in chosen],
        )


async def cancel_timers(connection: Connection, *, kind: str, keys: Sequence[str]) -> None:
    """Delete timers that became moot; those that do not exist are no error."""
    if keys:
        await connection.execute(CANCEL, kind, keys)


async def cancel_member_timers(connection: Connection, *, kinds: Sequence[str], member_ids: Sequence[UUID]) -> None:
    """Delete all timers of these kinds of these members."""
    if member_ids:
        await connection.execute(CANCEL_OF_MEMBERS, kinds, member_ids)


async def count_due(connection: Connection, *, kinds: Sequence[str], now: datetime) -> int:
    """How many timers are due and not yet run."""
    count: int = await connection.fetchval(COUNT_DUE, now, kinds, FAILURES_MAX)
    return count


@dataclass(slots=True)
class TimersRun:
    run: int = 0
    published: int = 0
    bugs: list[str] = field(default_factory=list)


async def claim_timers(connection: Connection, *, kinds: Sequence[str], now: datetime) -> list[tuple[Timer, int]]:
    """Lock the members of what is due, then take their due timers, oldest first, each with how often it has failed. The
    rows are deleted by this transaction."""
    due = [row["member_id"] for row in await connection.fetch(FIND_DUE, now, kinds, FAILURES_MAX, CLAIM_MAX)]
    if not due:
        return []
    members = await claim_members(connection, due)
    rows = await connection.fetch(TAKE, now, kinds, FAILURES_MAX, list(members), CLAIM_MAX)
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
) -> TimersRun:
    """Claim a batch of due timers and run each kind's handler, inside the caller's transaction. A handler that raises
    is tried timer by timer, and the guilty one again later with backoff."""
    claimed = await claim_timers(connection, kinds=list(handlers), now=now)
    failures = {(timer.kind, timer.key): failed for timer, failed in claimed}
    result = TimersRun(run=len(claimed))
    by_kind: dict[str, list[Timer]] = {}
    for timer, _ in claimed:
        by_kind.setdefault(timer.kind, []).append(timer)
    for kind, batch in by_kind.items():
        outcomes, failed = await _run_kind(connection, handlers[kind], batch, now, result)
        result.published += await put_in_outbox(connection, outcomes.published, service=service, scope=kind, now=now)
        if failed:
            await save_timers(connection, failed)
            kinds, keys = [t.kind for t in failed], [t.key for t in failed]
            await connection.execute(KEEP_FAILED, kinds, keys, [failures[t.kind, t.key] for t in failed])
    if claimed:
        result.published += await settle_waiting(connection, list({timer.member_id for timer, _ in claimed}), now)
    return result


async def _run_kind(
    connection: Connection, handler: TimerHandler, batch: list[Timer], now: datetime, result: TimersRun
) -> tuple[Outcomes, list[Timer]]:
    try:
        async with connection.transaction():
            return await handler(connection, batch, now=now), []
    except Exception as error:
        if is_transient(error):
            raise
        if len(batch) == 1:
            result.bugs.append(describe_bug(error))
            return Outcomes(), batch
    outcomes, failed = Outcomes(), []
    for timer in batch:
        one, guilty = await _run_kind(connection, handler, [timer], now, result)
        outcomes.published += one.published
        failed += guilty
    return outcomes, failed
