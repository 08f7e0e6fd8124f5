"""Given a service that is busy or stuck with everything else, when a red flag is raised, then it gets out at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from shared.database import Connection, Database, open_database
from shared.events import PainSettled, SafetyFlagged
from shared.events.codec import encode
from shared.events.envelope import event_type
from shared.events.plans import SafetyFlaggedData
from shared.events.vocabulary import Finding
from shared.member_locks import lock_members
from shared.migrating import migrate
from shared.outbox import write_outcomes
from shared.outcomes import Outcomes
from shared.partitioning import key_of, partition_of
from shared.relay import READ_MAX, URGENT, Outflow, Relay
from shared.service import Service
from shared.settings import ServiceSettings
from shared.subscriptions import Subscription
from shared.telemetry import RELAY_BACKOFF
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume, Publish, RunService
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.books import GROUP, SAFETY
from tests.shared.delivery.probe import ACTIVITY, DECISION, MEMBERS, add_tables, build, pain, paused
from tests.shared.delivery.relaying import relaying

PLANS = "careloop.plans"
RED: tuple[Finding, ...] = ("chest-pain-breathless",)
WAITING = 100_000
AT_ONCE_S = 5.0
LEASE_OF_ANOTHER = "insert into delivery.relay_lease values (true, gen_random_uuid(), clock_timestamp())"
FILL = """
insert into delivery.outbox (topic, member_id, value, key_hash)
select $1, m.id, $3, m.hash from generate_series(1, $4 / cardinality($2::uuid[])) as round
cross join unnest($2::uuid[], $5::int[]) as m(id, hash)
"""
COUNT = (
    "select count(*) filter (where not urgent) as bulk, count(*) filter (where urgent) as urgent from delivery.outbox"
)


@pytest.fixture
async def url(database: DatabaseFactory, topics: TopicFactory) -> str:
    await topics(ACTIVITY, MEMBERS, PLANS, partitions=12)
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, connections=6, application="test")
    yield opened
    await opened.close()


@pytest.fixture
def settings(servers: RunningServers, namespace: str, url: str) -> ServiceSettings:
    values = {"database_url": url, "kafka_bootstrap": servers.kafka_bootstrap, "namespace": namespace, "port": 0}
    return ServiceSettings(**values)  # type: ignore[arg-type]


def flags_of(member: UUID) -> Outcomes:
    outcomes = Outcomes()
    flag = SafetyFlaggedData(flag_id=member, disposition="emergency", findings=RED, decision=DECISION)
    outcomes.publish(SafetyFlagged, flag, because=pain(member, 1))
    return outcomes


async def raise_flag(pool: Database, member: UUID) -> None:
    async with pool.acquire() as connection:
        now = datetime.now(UTC)
        await write_outcomes(connection, flags_of(member), service="probe", scope="test", now=now, urgent=True)


async def fill(pool: Database, members: list[UUID], count: int) -> None:
    value = encode(pain(members[0], 1))
    hashes = [key_of(member).hash for member in members]
    await pool.execute(FILL, ACTIVITY, members, value, count, hashes)


async def test_many_waiting_rows_delay_a_flag_by_a_round_at_most(settings: ServiceSettings, pool: Database) -> None:
    """Those that wait at the start, and those that wait when it is raised; also where its member has many of them."""
    members = [uuid4() for _ in range(50)]
    await fill(pool, members, WAITING)
    await raise_flag(pool, members[0])
    left: list[int] = []

    async def flag_is_out() -> bool:
        counted = await pool.fetchrow(COUNT)
        assert counted
        left.append(counted["bulk"])
        return bool(counted["urgent"] == 0)

    async with relaying(settings, pool) as relay:
        await eventually(flag_is_out)
        assert left[-1] > WAITING / 2
        for _ in range(3):
            await raise_flag(pool, members[1])
            relay.wake(urgent=True)
            left.clear()
            await eventually(flag_is_out)
            assert left[0] - left[-1] <= 6 * READ_MAX  # to count them takes some rounds too


async def test_a_flag_does_not_wait_for_what_kafka_refuses_of_its_member(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    """Kafka takes no record that is more than an hour ahead."""
    member = uuid4()
    await fill(pool, [member], 1)
    await pool.execute("update delivery.outbox set created_at = created_at - interval '40 days'")
    async with relaying(settings, pool):
        await eventually(lambda: RELAY_BACKOFF._value.get() == 1)
        await raise_flag(pool, member)
        (read,) = await consume(PLANS, count=1, within=AT_ONCE_S)
        assert read["subject"] == str(member)
        assert await pool.fetchval("select count(*) from delivery.outbox where not urgent") == 1
    assert RELAY_BACKOFF._value.get() == 0


async def test_who_no_longer_leads_alarms_of_no_member(settings: ServiceSettings, pool: Database) -> None:
    """Whoever leads then hands the refused event over, or tells of it."""
    leads = asyncio.Event()
    leads.set()
    await fill(pool, [uuid4()], 1)
    await pool.execute("update delivery.outbox set created_at = created_at - interval '40 days'")
    outflow = Outflow(settings, pool, urgent=False, is_leading=leads.is_set)
    task = asyncio.create_task(outflow.run())
    try:
        await eventually(lambda: RELAY_BACKOFF._value.get() == 1)
        leads.clear()
        await eventually(lambda: RELAY_BACKOFF._value.get() == 0)
    finally:
        outflow.stopping = True
        await task
        await outflow.close()
    assert RELAY_BACKOFF._value.get() == 0


async def test_a_lease_from_a_clock_that_was_ahead_holds_up_no_flag(settings: ServiceSettings, pool: Database) -> None:
    """Its process was killed while the database's clock was two hours ahead, and the clock has been put right."""
    await raise_flag(pool, uuid4())
    await pool.execute(f"{LEASE_OF_ANOTHER[:-1]} + interval '2 hours')")
    async with relaying(settings, pool):
        await eventually(lambda: pool.fetchval("select not exists (select from delivery.outbox)"), within=20)


async def test_what_a_safety_group_publishes_is_urgent_and_nothing_else_is(
    run_service: RunService, pool: Database, url: str, publish: Publish
) -> None:
    async with pool.acquire() as other:
        leading = other.transaction()  # until it ends nobody else leads
        await leading.start()
        await other.execute(LEASE_OF_ANOTHER)
        async with run_service(build, name="probe", database_url=url):
            await publish(ACTIVITY, pain(uuid4(), 1, findings=RED))

            async def both_are_there() -> bool:
                rows = await pool.fetch("select urgent, value from delivery.outbox")
                told = {orjson.loads(row["value"])["type"]: row["urgent"] for row in rows}
                assert told == {event_type(PainSettled): False, event_type(SafetyFlagged): True}
                return True

            await eventually(both_are_there)
            await leading.rollback()
            await eventually(lambda: pool.fetchval("select not exists (select from delivery.outbox)"))


async def test_a_row_keeps_the_hash_of_its_member(pool: Database) -> None:
    member = uuid4()
    async with pool.acquire() as connection:
        await write_outcomes(connection, flags_of(member), service="probe", scope="test", now=datetime.now(UTC))
    row = await pool.fetchrow("select urgent, key_hash from delivery.outbox")
    assert row
    assert not row["urgent"]
    assert row["key_hash"] % 12 == partition_of(member, 12)


async def test_a_flag_is_raised_while_members_that_somebody_holds_use_up_all_connections(
    run_service: RunService, url: str, publish: Publish, consume: Consume
) -> None:
    async with run_service(build, name="probe", database_url=url) as probe:
        held = [next(m for m in iter(uuid4, None) if partition_of(m, 12) == number) for number in range(6)]
        other = await asyncpg.connect(url)
        holding = other.transaction()
        await holding.start()
        try:
            await lock_members(other, held)
            await publish(ACTIVITY, *[pain(member, 1) for member in held])
            await publish(MEMBERS, *[paused(member) for member in held])
            database = probe.service.database
            await eventually(lambda: database.get_size() == database.get_max_size() and not database.get_idle_size())
            stranger = uuid4()
            await publish(ACTIVITY, pain(stranger, 1, findings=RED))
            (read,) = await consume(PLANS, count=1, within=AT_ONCE_S)
            assert read["subject"] == str(stranger)
            assert not database.get_idle_size()
        finally:
            await holding.rollback()
            await other.close()


LEADERS = (
    "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query ~ 'relay_lease'"
)


async def test_a_flag_goes_out_where_the_leader_is_cut_off_while_all_other_connections_are_used(
    run_service: RunService, pool: Database, url: str, publish: Publish, consume: Consume
) -> None:
    async with run_service(build, name="probe", database_url=url) as probe, AsyncExitStack() as using:
        database = probe.service.database
        every = [
            asyncio.create_task(using.enter_async_context(database.acquire())) for _ in range(database.get_max_size())
        ]
        assert await pool.fetchval(f"select count(pg_terminate_backend(pid)) {LEADERS}") == 1
        await asyncio.wait_for(asyncio.gather(*every), timeout=20)
        await eventually(
            lambda: pool.fetchval(f"select count(*) > 0 {LEADERS}"), within=10, what="somebody leads again"
        )
        flagged = uuid4()
        await publish(ACTIVITY, pain(flagged, 1, findings=RED))
        (read,) = await consume(PLANS, count=1, within=AT_ONCE_S)
        assert read["subject"] == str(flagged)


async def never_called(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
    return Outcomes()


async def test_only_those_that_raise_flags_have_connections_of_their_own(run_service: RunService, url: str) -> None:
    def without(settings: ServiceSettings) -> Service:
        subscription = Subscription(topic=ACTIVITY, group="probe.activity", run=never_called)
        return Service(name="probe", settings=settings, subscriptions=[subscription])

    watch = await asyncpg.connect(url)
    connections = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    try:
        async with run_service(without, name="probe", database_url=url) as probe:
            assert {intake.database for intake in probe.service.intakes} == {probe.service.database}
        async with run_service(build, name="probe", database_url=url) as probe:
            used = {i.subscription.group: i.database is probe.service.database for i in probe.service.intakes}
            assert used == {"probe.activity": True, "probe.safety": False, "probe.members": True}
        assert await eventually(lambda: none_left(watch, connections))
    finally:
        await watch.close()


async def none_left(watch: "asyncpg.Connection[asyncpg.Record]", connections: str) -> bool:
    return bool(await watch.fetchval(connections) == 0)


SETTINGS = ServiceSettings(database_url=SecretStr("postgresql://not.used"), namespace="test", port=0)


async def test_a_safety_group_wakes_the_urgent_part_of_the_relay_and_no_other_does() -> None:
    woken: list[bool] = []
    service = build(SETTINGS)
    service._database = service._safety = cast(Any, object())
    service.relay = cast(Any, SimpleNamespace(wake=lambda *, urgent=False: woken.append(urgent)))
    for group in (SAFETY, GROUP):
        service._new_intake(service.readers[group])._taker.committed(1, None)
    assert woken == [True, False]


async def test_a_flag_is_told_to_the_leader_with_a_connection_that_only_flags_use() -> None:
    """All others may be held while it is committed in a process that does not lead."""
    told: list[str] = []

    def telling(with_what: str) -> Any:
        async def execute(_statement: str, _channel: str, what: str) -> None:
            told.append(f"{what} with {with_what}")

        return SimpleNamespace(execute=execute)

    relay = Relay(SETTINGS, telling("any"), telling("its own"))
    relay.wake(urgent=True)
    await eventually(lambda: told == [f"{URGENT} with its own"], within=5)
    relay.wake()
    await eventually(lambda: told[1:] == [" with any"], within=5)
