"""What stands still or goes wrong is told: by readiness, and by figures that alert rules can see rise."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition

from shared.clock import wall_now
from shared.database import Connection
from shared.lanes import Lane, RawChunk
from shared.outcomes import Cause, Outcomes, Timer
from shared.partitioning import partition_of
from shared.suspect_timers import FAILURES_MAX
from shared.telemetry import BUGS, SAFETY_FAILURES, TASK_RESTARTS, WRONG_PARTITION
from shared.timers import load_overdue, save_timers
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.books import GROUP, PARTITIONS, Books, take_one
from tests.shared.delivery.probe import ACTIVITY, build, pain

RISING = (
    'careloop_safety_failures_total{consumer_group="probe.safety"} 0.0',
    'careloop_bugs_total{where="probe.activity"} 0.0',
    'careloop_bugs_total{where="timers"} 0.0',
    'careloop_bugs_total{where="relay"} 0.0',
    'careloop_task_restarts_total{task="timers"} 0.0',
    'careloop_wrong_partition_records_total{topic="careloop.activity"} 0.0',
)


async def test_a_figure_is_there_before_it_rises(run_service: RunService, probe_url: str) -> None:
    """Prometheus sees no rise in a series that begins with its first failure: nobody would be woken for that one."""
    for counter in (SAFETY_FAILURES, BUGS, TASK_RESTARTS, WRONG_PARTITION):
        counter.clear()
    async with run_service(build, name="probe", database_url=probe_url) as running:
        told = (await running.client.get("/metrics")).text
        assert [line for line in RISING if line not in told] == []


async def test_every_record_in_a_wrong_partition_counts(books: Books) -> None:
    """Also several of one member in one chunk, and none of them beside one that is right."""

    def counted() -> float:
        return float(WRONG_PARTITION.labels(ACTIVITY)._value.get())

    astray, before = member_of(1), counted()
    scores = [(astray, 1), (astray, 2), (member_of(0), 3)]
    records = [cast(Any, books.write(pain(member, score), partition=0)) for member, score in scores]
    lane = Lane(TopicPartition(ACTIVITY, 0), start=0, cautious=False)
    await books.taker().take(lane, RawChunk(0, 0, len(records), records), counted=False, partitions=PARTITIONS)
    assert counted() - before == 2
    assert await books.effects(astray) == [1, 2]


async def test_one_bug_in_many_events_is_one_line_and_counts_for_each(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release with a bug in it makes a dead letter of thousands: the log is to say so, not to be full of it."""

    def counted() -> float:
        return float(BUGS.labels(GROUP)._value.get())

    lines, before = list[tuple[str, dict[str, Any]]](), counted()
    monkeypatch.setattr("shared.taking.log.error", lambda said, **fields: lines.append((said, fields)))
    records = [cast(Any, books.write(pain(uuid4(), score))) for score in (9, 9, 1, 9)]
    lane = Lane(TopicPartition(ACTIVITY, 0), start=0, cautious=False)
    await books.taker().take(lane, RawChunk(0, 0, len(records), records), counted=False, partitions=PARTITIONS)
    assert counted() - before == 3
    assert [(said, fields["count"]) for said, fields in lines] == [("events became dead letters", 3)]
    assert lines[0][1]["bug"].startswith("ProbeBug at ")


def member_of(partition: int) -> UUID:
    """Somebody whose events go there."""
    return next(member for member in iter(uuid4, None) if partition_of(member, PARTITIONS) == partition)


async def test_a_timer_that_is_due_and_does_not_run_is_told(
    run_service: RunService, probe_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one of a kind that nobody takes, or whose handler hangs."""
    monkeypatch.setattr("shared.housekeeping.HELD_EVERY_S", 0.1)
    member, due = uuid4(), wall_now() - timedelta(hours=1)
    cause = Cause(source="urn:test:app", id="e1", chain="c1")
    async with run_service(build, name="probe", database_url=probe_url) as running:
        async with running.service.database.acquire() as connection:
            await save_timers(connection, [Timer(kind="gone", key="k", member_id=member, due_at=due, cause=cause)])

        async def told() -> bool:
            figures = (await running.client.get("/metrics")).text
            figure = 'careloop_timers_overdue_seconds{service="probe"} '
            (line,) = [line for line in figures.splitlines() if line.startswith(figure)]
            return 3_600 <= float(line.removeprefix(figure)) < 3_700

        await eventually(told, within=10)


async def test_a_timer_that_was_given_up_is_not_overdue(books: Books) -> None:
    """It has a figure of its own, and would hide one that stands since just now."""
    cause, now = Cause(source="urn:test:app", id="e1", chain="c1"), wall_now()
    async with books.pool.acquire() as connection:
        due = {"given up": now - timedelta(days=9), "due": now - timedelta(seconds=60)}
        timers = [Timer(kind="k", key=key, member_id=uuid4(), due_at=at, cause=cause) for key, at in due.items()]
        await save_timers(connection, timers)
        await connection.execute("update delivery.timers set failures = $1 where key = 'given up'", FAILURES_MAX)
        assert await load_overdue(connection, now=now) == 60
        await connection.execute("delete from delivery.timers where key = 'due'")
        assert await load_overdue(connection, now=now) == 0


async def test_a_process_whose_connections_are_all_held_says_so_and_goes_on_telling_figures(
    probe: RunningService,
) -> None:
    await probe.settled()
    pool = probe.service.database
    async with AsyncExitStack() as held, asyncio.timeout(20):
        with suppress(TimeoutError):  # the relay keeps one for itself
            for _ in range(pool.get_max_size()):
                await held.enter_async_context(pool.acquire(timeout=1))
        ready = await probe.client.get("/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["database: TimeoutError"])
        assert 'careloop_not_ready{service="probe"} 1.0\n' in (await probe.client.get("/metrics")).text


async def test_a_chunk_that_neither_ends_nor_fails_is_told(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose handler waits for something that never comes."""
    monkeypatch.setattr("shared.intake.ENDLESS_S", 0.5)
    await probe.settled()

    async def wait_for_ever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    for intake in probe.service.intakes:
        if intake.subscription.group == "probe.activity":
            monkeypatch.setattr(intake._taker, "take", wait_for_ever)
    await publish(ACTIVITY, pain(uuid4(), 1))

    async def told() -> bool:
        answer = await probe.client.get("/health/ready")
        return answer.status_code == 503 and "probe.activity: 1 partitions have a chunk in hand for long" in answer.text

    await eventually(told, within=10)


async def test_a_partition_at_rest_is_not_told_of_however_long_ago_its_last_chunk_was_taken(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a service to which nothing comes for a while would be started anew, for nothing."""
    monkeypatch.setattr("shared.intake.ENDLESS_S", 0.0)
    await publish(ACTIVITY, pain(uuid4(), 1))
    await probe.settled()

    async def ready() -> bool:
        answer = await probe.client.get("/health/ready")
        assert answer.status_code == 200, answer.text
        return True

    await eventually(ready, within=10)


async def test_who_acts_on_what_was_committed_is_told_once_it_is(books: Books) -> None:
    """A relay that is woken sooner would find nothing, and a window would show what may yet be taken back."""
    open_when_told, used = list[bool](), list[Connection]()
    run = books.subscription(GROUP).run

    async def note(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        used.append(connection)
        return await run(connection, events, now=now)

    reader = replace(books.readers[GROUP], subscription=replace(books.subscription(GROUP), run=note))
    books.readers = {**books.readers, GROUP: reader}
    taker = books.taker()
    taker.committed = lambda *_: open_when_told.append(used[0].is_in_transaction())
    await take_one(taker, books.write(pain(uuid4(), 1)))
    assert open_when_told == [False]
