"""What a service does beside its work: ends waiting that lasted too long, forgets what retention has passed."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, get_args
from uuid import UUID

from aiokafka.errors import KafkaError
from asyncpg import Record

from shared.arrivals import KILLER, TOO_SLOW, Fault
from shared.clock import monotonic
from shared.database import Connection, bounded_transaction, read_whole_tables
from shared.dying import Attempts
from shared.held_events import (
    FROM_THE_FIRST,
    WAITED_TOO_LONG,
    HeldEvent,
    HeldState,
    Mark,
    find_expired,
    find_head,
    mark_held,
)
from shared.hosting import Host
from shared.inbox import find_apart, forget_taken
from shared.lag import Waits, load_all_positions
from shared.member_locks import claim_members
from shared.outbox import load_outbox_age
from shared.replaying import QUEUE_PAGE, drain_queues, settle_waiting
from shared.slow_events import Suspicion
from shared.telemetry import (
    HELD_BYTES,
    HELD_EVENTS,
    HELD_OLDEST,
    LAG_RECORDS,
    LAG_SECONDS,
    OUTBOX_OLDEST,
    RECORDS,
    TIMERS_GIVEN_UP,
    TIMERS_OVERDUE,
    logger,
)
from shared.timers import count_given_up, load_overdue

COUNT_HELD = """
select consumer_group, state, count(*) as events,
    extract(epoch from clock_timestamp() - min(held_at))::float8 as oldest_s,
    sum(coalesce(octet_length(value), 0) + pg_column_size(headers))::bigint as bytes
from delivery.held_events group by consumer_group, state
"""
HELD_EVERY_S = 5.0
HELD_COUNT_S = 15.0
"""Counting a very long table is given up after this, and the figures stay as they were."""
LAG_EVERY_S = 5.0
EXPIRY_TICK_S = 1.0
EXPIRED_MAX = 100
FORGET_EVERY_S = 600.0
FORGET_PAUSE_S = 0.1
"""Between two steps, so that a large clean-up stays behind the work."""
FORGET_STEPS = 100
"""After which it is looked again what must be remembered."""
FORGET_ATTEMPTS = (
    "delete from delivery.attempts a using delivery.positions p where a.consumer_group = p.consumer_group"
    " and a.topic = p.topic and a.partition = p.partition and a.record_offset < p.next_offset"
)
# Of a timer that is not due any more: it has run since, where nobody counts attempts, or is moot. One that is set anew
# under its key would be given up for what it did not do.
FORGET_TIMERS_ATTEMPTS = """
delete from delivery.attempts a where a.topic = '' and a.consumer_group like 'timer %' and not exists (
    select from delivery.timers t where t.due_at <= $1 and a.consumer_group = 'timer ' || t.kind || ' ' || t.key
)
"""
log = logger("housekeeping")


@dataclass(slots=True)
class Page:
    """How much is taken at once of a queue."""

    events: int
    suspicion: Suspicion
    """Of its head, where that is tried alone."""


Pages: TypeAlias = dict[tuple[UUID, str], Page]
"""By member and group: of the queues of which more could not be taken in one transaction."""


async def expire_waiting(service: Host, pages: Pages, is_careful: Callable[[], bool]) -> None:
    """Events that waited longer than their limit, in clinic time, become dead letters after one last try. The rest of a
    queue that was too long for one transaction is taken here, too. Raises what one raised once all had their turn.
    While it `is_careful` one event of a queue at a time, and what ends the process each time becomes a dead letter; so
    does, at any time, one that takes too long by itself while others get on (shared/slow_events.py)."""
    while True:
        failed = await _expire_round(service, pages, is_careful)
        if failed is not None:
            raise failed
        await asyncio.sleep(EXPIRY_TICK_S)


async def _expire_round(service: Host, pages: Pages, is_careful: Callable[[], bool]) -> Exception | None:
    """Look once at everything that has expired by now, page by page, so that however much fails, as what only the next
    release can read does, nobody waits behind it. What one raised."""
    now, after = service.clock.now(), FROM_THE_FIRST
    seen: set[tuple[UUID, str]] = set()
    failed: Exception | None = None
    while True:
        page = await find_expired(
            service.database, groups=list(service.readers), now=now, limit=EXPIRED_MAX, after=after
        )
        queues = {(one.member_id, one.group) for one in page} - seen
        for queue in sorted(queues):
            try:
                await _take_page(service, pages, queue, is_careful=is_careful())
            except Exception as error:
                failed = error
        seen |= queues
        if len(page) < EXPIRED_MAX:
            for gone in pages.keys() - seen:
                del pages[gone]
            return failed
        after = (page[-1].expires_at, page[-1].held_id)


async def _take_page(service: Host, pages: Pages, queue: tuple[UUID, str], *, is_careful: bool) -> None:
    """Take a page of a queue, a smaller one after one that failed. Raises what it fails with."""
    subscription = service.readers[queue[1]].subscription
    page = pages.get(queue) or Page(QUEUE_PAGE, Suspicion(service.database, subscription))
    suspicion = page.suspicion if page.events == 1 else None
    attempts = Attempts(service.database) if is_careful else None
    try:
        async with (
            suspicion.trying() if suspicion is not None else nullcontext(),
            service.database.acquire(timeout=30) as connection,
            bounded_transaction(connection),
        ):
            published = await _expire_queue(
                service, connection, *queue, page=page.events, attempts=attempts, suspicion=suspicion
            )
    except Exception:
        page.events = max(1, page.events // 2)
        pages[queue] = page
        raise
    page.events *= 2
    if page.events >= QUEUE_PAGE:
        pages.pop(queue, None)
    service.committed(published)


async def _expire_queue(
    service: Host,
    connection: Connection,
    member_id: UUID,
    group: str,
    *,
    page: int,
    attempts: Attempts | None,
    suspicion: Suspicion | None,
) -> int:
    reader, now = service.readers[group], service.clock.now()
    if not await claim_members(connection, [member_id], limit=1):
        return 0  # somebody holds them: in the next round
    drain = partial(drain_queues, connection, reader, [member_id], service=service.name, now=now)
    if attempts is None and suspicion is None:
        (drained,), published = await drain(page=page)
    else:
        head = await find_head(connection, member_id=member_id, group=group, topic=reader.subscription.topic)
        if head is None:
            return 0  # somebody has taken it meanwhile
        if suspicion is not None:
            suspicion.turn_to(head.held_id)
            if suspicion.is_guilty:
                await _condemn(connection, head, TOO_SLOW)
                return 0
        attempt = attempts.at(f"held {head.held_id}", within=connection) if attempts else nullcontext(True)
        async with attempt as may_run:
            if not may_run:
                await _condemn(connection, head, KILLER)
                return 0
            (drained,), published = await drain(page=1)
    if any(fate.outcome == "waiting" for fate in drained.fates):
        head = await find_head(connection, member_id=member_id, group=group, topic=reader.subscription.topic)
        if head is not None and head.expires_at is not None and head.expires_at <= now:
            await mark_held(connection, [Mark(head.held_id, "dead", WAITED_TOO_LONG, head.reason)])
            RECORDS.labels(group, "expired").inc()
            log.error("an event waited too long and became a dead letter", group=group, needs=head.reason)
    if drained.taken:  # another queue may have waited for that: the next round takes it
        ours = (member_id, group, reader.subscription.topic)
        await settle_waiting(
            connection, [member_id], now, readers=service.readers, service=service.name, besides=ours, with_care=True
        )
    return published


async def _condemn(connection: Connection, head: HeldEvent, fault: Fault) -> None:
    await mark_held(connection, [Mark(head.held_id, "dead", fault.reason, fault.detail)])
    log.error("a held event became a dead letter", group=head.consumer_group, reason=fault.reason)


async def count_held(service: Host) -> None:
    """Tell how much is held, and how old it is; the intakes then know how much room there is. And how long the outbox
    and the timers have stood, and how many of these are given up."""
    while True:
        async with service.database.acquire(timeout=30) as connection:
            OUTBOX_OLDEST.labels(service.name).set(await load_outbox_age(connection))
            now = service.clock.now()
            TIMERS_OVERDUE.labels(service.name).set(await load_overdue(connection, now=now))
            TIMERS_GIVEN_UP.labels(service.name).set(await count_given_up(connection, now=now))
            try:
                async with connection.transaction():
                    await read_whole_tables(connection)
                    rows = await connection.fetch(COUNT_HELD, timeout=HELD_COUNT_S)
            except TimeoutError:
                log.warning("held events could not be counted in time")
            else:
                _tell_held(service, {(row["consumer_group"], row["state"]): row for row in rows})
        await asyncio.sleep(HELD_EVERY_S)


def _tell_held(service: Host, counted: Mapping[tuple[str, str], Record]) -> None:
    held_bytes = dict.fromkeys(service.readers, 0)
    for group in service.readers:
        for state in get_args(HeldState):
            row = counted.get((group, state))
            HELD_EVENTS.labels(group, state).set(row["events"] if row else 0)
            HELD_OLDEST.labels(group, state).set(row["oldest_s"] if row else 0)
            held_bytes[group] += row["bytes"] if row else 0
        HELD_BYTES.labels(group).set(held_bytes[group])
    for intake in service.intakes:
        intake.room.held_bytes = held_bytes[intake.subscription.group]


async def tell_lag(service: Host) -> None:
    """Tell how much no process of this service has taken, of any partition, and since when. Told from the positions in
    the database: who else reads in the name of a group, for another one, moves those that Kafka knows."""
    waits = Waits()
    while True:
        async with service.database.acquire(timeout=30) as connection:
            positions = await load_all_positions(connection)
        with suppress(KafkaError):  # whoever reads or publishes tells of that
            unread = await service.find_unread(positions, at_once=False)
            waited = waits.look(unread, at=monotonic())
            for group in service.readers:
                of_group = [place for place in unread if place[0] == group]
                LAG_RECORDS.labels(group).set(sum(unread[place].records for place in of_group))
                LAG_SECONDS.labels(group).set(max((waited[place] for place in of_group), default=0.0))
        await asyncio.sleep(LAG_EVERY_S)


async def forget_old(service: Host) -> None:
    """Delete inbox rows past retention, in small steps, and attempts that ended."""
    while True:
        async with service.database.acquire(timeout=30) as connection:
            await connection.execute(FORGET_ATTEMPTS)
            await connection.execute(FORGET_TIMERS_ATTEMPTS, service.clock.now())
            apart = await find_apart(connection)
        for _ in range(FORGET_STEPS):
            async with service.database.acquire(timeout=30) as connection:
                forgotten = await forget_taken(connection, apart)
            await asyncio.sleep(FORGET_PAUSE_S if forgotten else FORGET_EVERY_S)
            if not forgotten:
                break
