"""200 events cost as many statements as one, in every group, for every timer and on every way of held events."""

import ast
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.plans.settings import PlansSettings
from shared.database import Connection
from shared.events.catalogue import SERVICES, TOPICS
from shared.outcomes import Outcomes
from shared.settings import ServiceSettings
from tests.fixtures.servers import RunningServers
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.statements.chunks import SIZES, OpenDesk, count_kinds, count_mixed, subscriptions_of, timers_of
from tests.statements.counting import Counted
from tests.statements.edges import ROUND, count_request, count_rounds, count_sends, open_ingress
from tests.statements.gate import count_whole_reads, require_constant, require_lookups
from tests.statements.held import CONSTANT, GROUP, SEARCHES, SESSION, Way, told, with_taps
from tests.statements.page import by_size, keep_block
from tests.statements.story import STORY
from tests.statements.timers import count_timers

ROOT = Path(__file__).parents[2]
READING = [service for service in SERVICES if subscriptions_of(service)]
TIMED = [service for service in SERVICES if timers_of(service)]
RELAY, INGRESS = "relayed, in the dearest round", "received in one request of an app"
CLAIM, ANSWER = "messages claimed to be sent", "messages recorded as sent"
WAYS = (INGRESS, RELAY, CLAIM, ANSWER)
SIZE_NAMES = [str(size) for size in SIZES]

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("service", READING)
async def test_chunks_counted(open_desk: OpenDesk, service: str) -> None:
    desk = await open_desk(service)
    kinds = await count_kinds(desk)
    rows = []
    for group in desk.readers:
        of_group = {name: counts for (reader, name), counts in kinds.items() if reader == group}
        for name, counts in of_group.items():
            require_constant(f"{name} in {group}", counts)
        mixed = await count_mixed(desk, group)
        require_constant(f"a mixed chunk in {group}", mixed)
        cheapest, dearest = (find(of_group, key=lambda name: of_group[name][1].total) for find in (min, max))
        span = [f"{of_group[name][1].total} ({name})" for name in dict.fromkeys((cheapest, dearest))]
        rows.append([f"`{group}`", *[" to ".join(span)], *by_size(mixed)])
    # Which may come by itself at any time, and would read a table whole to sum up a BRIN index.
    await desk.database.execute("vacuum")
    await require_lookups(desk.database)
    keep_block(f"Chunks of {service}", ["group", "1, 20 or 200 of one kind", "20 mixed", "200 mixed"], rows)


@pytest.mark.parametrize("service", TIMED)
async def test_timers_counted(open_desk: OpenDesk, service: str) -> None:
    desk = await open_desk(service)
    rows = []
    for timer in desk.timers:
        counts = await count_timers(desk, timer.kind, SIZES)
        require_constant(f"{timer.kind} of {service}", counts)
        rows.append([f"`{timer.kind}`", *by_size(counts)])
    keep_block(f"Timers of {service}", ["kind", *SIZE_NAMES], rows)


async def _count_ways(open_desk: OpenDesk, ways: dict[str, Way]) -> dict[str, dict[int, Counted]]:
    subscriptions, taps = with_taps(subscriptions_of("plans"))
    desk = await open_desk("plans", subscriptions)
    found: dict[str, dict[int, Counted]] = {}
    for name, way in ways.items():
        found[name] = {}
        for size in SIZES:
            await desk.database.execute("truncate delivery.held_events")  # which reads it whole, for its indexes
            before = await count_whole_reads(desk.database)
            found[name][size] = await way(desk, taps[GROUP], desk.new_members(size))
            await require_lookups(desk.database, since=before)
    return found


async def test_held_events_counted(open_desk: OpenDesk) -> None:
    found = await _count_ways(open_desk, CONSTANT)
    for name, counts in found.items():
        require_constant(name, counts)
    rows = [[name, *by_size(counts)] for name, counts in found.items()]
    keep_block("Held events", ["so many events", *SIZE_NAMES], rows)


async def test_searches_counted(open_desk: OpenDesk) -> None:
    """What may cost more for more: the search for a guilty event by halves, and second bodies one by one."""
    found = await _count_ways(open_desk, {name: search.way for name, search in SEARCHES.items()})
    for name, counts in found.items():
        for size, counted in counts.items():
            assert counted.total <= SEARCHES[name].allowed(size), f"{name}: {counted.total} for {size}"
    rows = [[name, *by_size(counts)] for name, counts in found.items()]
    keep_block("What may cost more for more", ["so many events", *SIZE_NAMES], rows)


async def test_ways_in_and_out_counted(
    open_desk: OpenDesk, servers: RunningServers, namespace: str, topics: TopicFactory, tokens: Tokens
) -> None:
    await topics("careloop.activity", partitions=4)
    desk = await open_desk("plans")
    values: dict[str, Any] = {
        "database_url": "postgresql://not.used", "kafka_bootstrap": servers.kafka_bootstrap,
        "valkey_url": servers.valkey_url, "namespace": namespace, "port": 0,
    }  # fmt: skip
    ways: dict[str, dict[int, Counted]] = {name: {} for name in WAYS}
    for size in SIZES:
        ways[RELAY][size] = await count_rounds(ServiceSettings(**values), desk.database, desk.new_members(size))
        assert ways[RELAY][size].total <= ROUND
    async with open_ingress(PlansSettings(**values), desk.database, tokens) as client:
        for size in SIZES:
            numbers = desk.new_members(size)
            ways[INGRESS][size] = await count_request(client, tokens, desk.database, numbers, batch=True)
        single = await count_request(client, tokens, desk.database, desk.new_members(1), batch=False)
        assert single.total == ways[INGRESS][1].total
    desk = await open_desk("notifications")
    for size in SIZES:
        ways[CLAIM][size], ways[ANSWER][size] = await count_sends(desk, desk.new_members(size))
    for name, counts in ways.items():
        require_constant(name, counts)
    keep_block(
        "In and out", ["so many events", *SIZE_NAMES], [[name, *by_size(counts)] for name, counts in ways.items()]
    )


def test_every_group_of_every_service_is_counted() -> None:
    """A service, a group or a topic's reader that is new is counted without being asked for."""
    assert {path.parent.name for path in (ROOT / "services").glob("*/subscriptions.py")} == set(SERVICES)
    measured = {subscription.group for service in READING for subscription in subscriptions_of(service)}
    assert measured == {group for topic in TOPICS for group in topic.consumers}
    happening = {type(event) for event in STORY}
    assert happening == {event for topic in TOPICS for event in topic.events}, "the story tells of every event"


async def test_the_gate_sees_a_table_that_is_read_whole(open_desk: OpenDesk) -> None:
    desk = await open_desk("plans")
    await require_lookups(desk.database)
    await desk.database.fetch("select * from care_plans where version = 1")
    with pytest.raises(AssertionError, match=r"read from end to end: \['public.care_plans'\]"):
        await require_lookups(desk.database)


async def _a_statement_an_event(connection: Connection, events: Sequence[Any]) -> None:
    for _ in events:
        await connection.fetchval("select 1")


async def _many_at_once(connection: Connection, events: Sequence[Any]) -> None:
    await connection.executemany("select $1::text", [(event.id,) for event in events])


async def _a_savepoint_a_member(connection: Connection, events: Sequence[Any]) -> None:
    for _ in {event.subject for event in events}:
        async with connection.transaction():
            pass


@pytest.mark.parametrize("planted", [_a_statement_an_event, _many_at_once, _a_savepoint_a_member])
async def test_the_gate_sees_a_loop(
    open_desk: OpenDesk, planted: Callable[[Connection, Sequence[Any]], Awaitable[None]]
) -> None:
    """Given the real handler with a loop in it, when chunks of three sizes are taken, then the gate names it."""
    (real,) = [subscription for subscription in subscriptions_of("plans") if subscription.group == GROUP]

    async def looping(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        await planted(connection, events)
        return await real.run(connection, events, now=now)

    desk = await open_desk("plans", [replace(real, run=looping)])
    counts = {}
    for size in SIZES:
        _, counts[size] = await desk.take(GROUP, told(SESSION, desk.new_members(size)))
    with pytest.raises(AssertionError, match="00 times"):
        require_constant("planted", counts)


UNSEEN = {"executemany", "prepare", "cursor", "copy_records_to_table", "copy_to_table"}
"""Of the driver: a statement a row, or one that is not told to whoever counts."""
OF_WHOLE_FILES = {"services/enrollment/store/applying.py", "services/enrollment/store/imports.py"}
"""A sponsor's roster as a whole, page by page in a task of its own: no batch of events."""


def _unseen(source: str) -> list[str]:
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in UNSEEN]


def test_nothing_is_sent_that_is_not_counted() -> None:
    paths = [path for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): _unseen(path.read_text()) for path in paths}
    assert {name for name, calls in found.items() if calls} == OF_WHOLE_FILES
    assert _unseen("await connection.executemany(SAVE, rows)") == ["executemany"]
