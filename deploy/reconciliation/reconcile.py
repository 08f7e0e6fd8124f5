"""Reconcile a running stack: read the log, hold it against every subscriber's books, and say what does not add up.

A live stack moves while it is looked at. So the ends of the log are noted first, every group is given time to pass
them, and only records below what a group has counted are held against its counts.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from deploy.reconciliation.books import (
    Book,
    count_mismatched,
    find_missing,
    load_books,
    load_outbox_head,
    load_overdue,
)
from deploy.reconciliation.log import Bounds, LogReader
from shared.clock import Clock, monotonic
from shared.events.catalogue import TOPICS
from shared.inbox import RETENTION_DAYS

CATCH_UP_S = 60.0
"""How long a group may take to pass the ends of the log that were noted at the start."""
OVERDUE = timedelta(minutes=2)
"""A timer that was due so long ago, in clinic time, and is still there some seconds later is overdue."""
WATCH_S = 5.0
"""How long an outbox row or an overdue timer may stay before it counts as not moving."""


@dataclass
class Line:
    """One consumer group on one partition."""

    consumer_group: str
    topic: str
    partition: int
    in_log: int
    read: int
    classes: dict[str, int]
    missing: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Report:
    lines: list[Line] = field(default_factory=list)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and not any(line.problems for line in self.lines)


async def reconcile(
    *,
    bootstrap: str,
    namespace: str,
    databases: Mapping[str, str],
    clock: Clock,
    progress: Callable[[str], None] = print,
) -> Report:
    """Hold the log against the books of these services (name to database URL). Raises KafkaError or asyncpg errors
    where a server does not answer."""
    report, reader = Report(), LogReader(bootstrap, namespace)
    async with AsyncExitStack() as stack:
        connections: dict[str, asyncpg.Connection[asyncpg.Record]] = {}
        for service, url in databases.items():
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            connections[service] = connection
        ends = {topic.name: await reader.bounds(topic.name) for topic in TOPICS}
        progress("waiting for every consumer group to pass the ends of the log")
        await _wait_for_groups(connections, ends)
        for topic in TOPICS:
            for group in topic.consumers:
                service = group.split(".")[0]
                if service in connections:
                    progress(f"{group}: reading {topic.name}")
                    await _check_group(report, connections[service], reader, group, topic.name, ends[topic.name])
        progress("watching outboxes and timers")
        await asyncio.gather(
            *(_check_service(report, service, connection, clock) for service, connection in connections.items())
        )
    return report


async def _wait_for_groups(
    connections: Mapping[str, "asyncpg.Connection[asyncpg.Record]"], ends: Mapping[str, Mapping[int, Bounds]]
) -> None:
    """Until every group has passed what was in the log at the start, or the time is up: the check then says which."""
    deadline = monotonic() + CATCH_UP_S
    while monotonic() < deadline:
        behind = False
        for connection in connections.values():
            for book in await load_books(connection):
                bounds = ends.get(book.topic, {}).get(book.partition)
                behind |= bounds is not None and book.next_offset < bounds.end
        if not behind:
            return
        await asyncio.sleep(0.3)


async def _check_group(
    report: Report,
    connection: "asyncpg.Connection[asyncpg.Record]",
    reader: LogReader,
    group: str,
    topic: str,
    ends: Mapping[int, Bounds],
) -> None:
    books = {b.partition: b for b in await load_books(connection) if b.consumer_group == group and b.topic == topic}
    for partition, bounds in sorted(ends.items()):
        book = books.get(partition)
        if book is None:
            if bounds.end > bounds.first:
                report.problems.append(f"{group} has no position in {topic} {partition}, which holds records")
            continue
        report.lines.append(await _check_partition(connection, reader, book, bounds))


async def _check_partition(
    connection: "asyncpg.Connection[asyncpg.Record]", reader: LogReader, book: Book, bounds: Bounds
) -> Line:
    line = Line(book.consumer_group, book.topic, book.partition, 0, book.read, book.classes)
    if book.next_offset < bounds.end:
        line.problems.append(f"{bounds.end - book.next_offset} records behind")
    forgotten_before = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
    if book.next_offset > bounds.first:
        async for batch in reader.records(book.topic, book.partition, until=book.next_offset):
            mine = [record for record in batch if record.offset >= book.first_offset]
            line.in_log += len(mine)
            keys = [
                record.inbox_keys(book.consumer_group, book.topic, book.partition)
                for record in mine
                if record.written_at > forgotten_before
            ]
            line.missing += await find_missing(connection, keys)
    if line.missing:
        line.problems.append(f"{line.missing} records of the log are not in the inbox")
    if (total := sum(book.classes.values())) != book.read:
        line.problems.append(f"read {book.read}, but its outcomes add up to {total}")
    if bounds.first <= book.first_offset and line.in_log != book.read:
        line.problems.append(f"the log holds {line.in_log}, read {book.read}")
    return line


async def _check_service(
    report: Report, service: str, connection: "asyncpg.Connection[asyncpg.Record]", clock: Clock
) -> None:
    before, due_before = await load_outbox_head(connection), clock.now() - OVERDUE
    overdue_before = {timer.kind for timer in await load_overdue(connection, due_before=due_before)}
    if before.rows or overdue_before:
        await asyncio.sleep(WATCH_S)
    after = await load_outbox_head(connection)
    stuck = before.oldest is not None and after.oldest == before.oldest
    overdue = [t for t in await load_overdue(connection, due_before=due_before) if t.kind in overdue_before]
    mismatched = await count_mismatched(connection)
    report.services[service] = {
        "outbox_rows": after.rows,
        "overdue_timers": sum(timer.count for timer in overdue),
        "held_without_outcome": mismatched,
    }
    if stuck:
        report.problems.append(f"{service}: the oldest of {after.rows} outbox rows has not moved for {WATCH_S:.0f} s")
    report.problems += [f"{service}: {timer.count} timers of kind {timer.kind} are overdue" for timer in overdue]
    if mismatched:
        report.problems.append(f"{service}: {mismatched} held events do not agree with the inbox")
