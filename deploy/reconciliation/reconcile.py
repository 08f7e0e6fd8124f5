"""Reconcile a running stack: read the log, hold it against every subscriber's books, and say what does not add up.

A live stack moves while it is looked at. So the ends of the log are noted first, every group is given time to pass
them, and only records below what a group has counted are held against its counts.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from deploy.reconciliation.books import (
    Book,
    count_disagreeing,
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
    security: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = print,
) -> Report:
    """Hold the log against the books of these services (name to database URL). Raises KafkaError or asyncpg errors
    where a server does not answer."""
    report, reader = Report(), LogReader(bootstrap, namespace, security=security)
    async with AsyncExitStack() as stack:
        connections: dict[str, asyncpg.Connection[asyncpg.Record]] = {}
        for service, url in databases.items():
            connection = await asyncpg.connect(url, timeout=10)
            stack.push_async_callback(connection.close)
            connections[service] = connection
        topics = [topic.name for topic in TOPICS]
        noted = await reader.bounds(*topics)
        progress("waiting for every consumer group to pass the ends of the log")
        await _wait_for_groups(connections, reader, noted)
        books = {service: await load_books(connection) for service, connection in connections.items()}
        # Read after the books: a position beyond these ends is no record that came meanwhile.
        present = await reader.bounds(*topics)
        for topic in TOPICS:
            for group in topic.consumers:
                service = group.split(".")[0]
                if service in connections:
                    progress(f"{group}: reading {topic.name}")
                    of_group = [b for b in books[service] if (b.consumer_group, b.topic) == (group, topic.name)]
                    check = _Check(connections[service], reader, noted[topic.name], present[topic.name])
                    await check.group(report, of_group, group, topic.name)
        progress("watching outboxes and timers")
        await asyncio.gather(
            *(_check_service(report, service, connection, clock) for service, connection in connections.items())
        )
    return report


async def _wait_for_groups(
    connections: Mapping[str, "asyncpg.Connection[asyncpg.Record]"],
    reader: LogReader,
    ends: Mapping[str, Mapping[int, Bounds]],
) -> None:
    """Until every group has passed what was in the log at the start, or the time is up: the check then says which."""
    deadline = monotonic() + CATCH_UP_S
    while monotonic() < deadline:
        books = [book for connection in connections.values() for book in await load_books(connection)]
        for book in books:
            bounds = ends.get(book.topic, {}).get(book.partition)
            start = book.next_offset if bounds is None else max(book.next_offset, bounds.first)
            if bounds is not None and await reader.holds(book.topic, book.partition, start=start, until=bounds.end):
                break
        else:
            return
        await asyncio.sleep(0.3)


@dataclass(frozen=True, slots=True)
class _Check:
    """Holds the books of a service against one topic."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    reader: LogReader
    noted: Mapping[int, Bounds]
    """Of the log when the check began: every group had time to pass them."""
    present: Mapping[int, Bounds]

    async def group(self, report: Report, books: Sequence[Book], group: str, topic: str) -> None:
        positions = {book.partition: book for book in books}
        for partition, bounds in sorted(self.noted.items()):
            book = positions.pop(partition, None)
            if book is not None:
                report.lines.append(await self.partition(book, bounds, self.present.get(partition, bounds)))
            elif bounds.end > bounds.first:
                report.problems.append(f"{group} has no position in {topic} {partition}, which holds records")
        for partition in positions:
            report.problems.append(f"{group} has a position in {topic} {partition}, which does not exist")

    async def partition(self, book: Book, noted: Bounds, present: Bounds) -> Line:
        line = Line(book.consumer_group, book.topic, book.partition, 0, book.read, book.classes)
        if book.next_offset > present.end:
            line.problems.append(f"the position {book.next_offset} lies beyond the end of the log, {present.end}")
        elif book.next_offset < present.first:
            line.problems.append(
                f"the position {book.next_offset} lies before the beginning of the log, {present.first}"
            )
        elif book.next_offset < noted.end and (
            behind := await self.reader.count(book.topic, book.partition, start=book.next_offset, until=noted.end)
        ):
            line.problems.append(f"{behind} records behind")
        counted = 0
        if (until := min(book.next_offset, present.end)) > present.first:
            counted = await self._read(line, book, until=until)
        if line.missing:
            line.problems.append(f"{line.missing} records of the log are not in the inbox")
        if (total := sum(book.classes.values())) != book.read:
            line.problems.append(f"read {book.read}, but its outcomes add up to {total}")
        if present.first <= book.counted_from and counted != book.read - book.counted_before:
            since = f" from {book.counted_from} on" if book.counted_before else ""
            line.problems.append(f"the log holds {counted}{since}, read {book.read - book.counted_before}")
        return line

    async def _read(self, line: Line, book: Book, *, until: int) -> int:
        """Look at the records below `until`: whether the inbox knows them, and how many its counts must tell of."""
        counted, first = 0, min(book.first_offset, book.counted_from)
        forgotten_before = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
        async for batch in self.reader.records(book.topic, book.partition, until=until):
            mine = [record for record in batch if record.offset >= first]
            line.in_log += len(mine)
            counted += sum(1 for record in mine if record.offset >= book.counted_from)
            keys = [
                record.inbox_keys(book.consumer_group, book.topic, book.partition)
                for record in mine
                if record.written_at > forgotten_before
            ]
            line.missing += await find_missing(self.connection, keys)
        return counted


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
    disagreeing = await count_disagreeing(connection)
    report.services[service] = {
        "outbox_rows": after.rows,
        "overdue_timers": sum(timer.count for timer in overdue),
        "held_without_outcome": disagreeing.held,
        "outcomes_without_held": disagreeing.told,
    }
    if stuck:
        report.problems.append(f"{service}: the oldest of {after.rows} outbox rows has not moved for {WATCH_S:.0f} s")
    report.problems += [f"{service}: {timer.count} timers of kind {timer.kind} are overdue" for timer in overdue]
    if disagreeing.held:
        report.problems.append(f"{service}: {disagreeing.held} held events do not agree with the inbox")
    if disagreeing.told:
        report.problems.append(
            f"{service}: {disagreeing.told} events are dead, parked or waiting in the inbox, but are not held"
        )
