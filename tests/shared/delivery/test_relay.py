"""Given rows in the outbox, when the relay hands them over, then each member's events lie in the log in order."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError, NotEnoughReplicasError, TopicAuthorizationFailedError, UnknownError
from aiokafka.producer.sender import SendProduceReqHandler

from shared.database import Database, open_database
from shared.events.codec import encode
from shared.kafka import new_producer
from shared.migrating import migrate
from shared.relay import CHANNEL, URGENT, Relay
from shared.settings import ServiceSettings
from shared.telemetry import RELAY_BACKOFF, RELAY_FAILURES
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume
from tests.fixtures.topics import TopicFactory, remake_topic
from tests.shared.delivery.probe import ACTIVITY, pain
from tests.shared.delivery.relaying import empty, events_of, ids_of, member_in, numbers, put, relaying

PLANS = "careloop.plans"
TOO_OLD = "update delivery.outbox set created_at = created_at - interval '40 days' where member_id = $1"
"""The broker of a test takes no record that is so old, whatever its topic's settings, which a busy one applies late."""
PAUSE_S = 3.0
"""After which the client tries a partition again, and every other one of the same broker until then."""
FILLING = 5_000
"""More rows than the relay reads at once."""
AT_ONCE_S = 4.0
"""What is held up by nothing is there in far less; whoever waits for a partition to be given up waits longer."""


@pytest.fixture
async def settings(
    servers: RunningServers, namespace: str, database: DatabaseFactory, topics: TopicFactory
) -> ServiceSettings:
    await topics(ACTIVITY, partitions=3)
    url = await database(None)
    await migrate(url, service="probe")
    values = {"database_url": url, "kafka_bootstrap": servers.kafka_bootstrap, "namespace": namespace, "port": 0}
    return ServiceSettings(**values)  # type: ignore[arg-type]


@pytest.fixture
async def pool(settings: ServiceSettings) -> AsyncIterator[Database]:
    opened = await open_database(settings.database_url.get_secret_value(), connections=6, application="test")
    yield opened
    await opened.close()


@pytest.fixture
def leaderless(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[TopicPartition]]:
    """Partitions that nobody leads, as far as clients here can see; who consumes cannot read them either."""
    places: set[TopicPartition] = set()
    leader_for_partition = ClusterMetadata.leader_for_partition

    def leader(metadata: ClusterMetadata, place: TopicPartition) -> Any:
        return -1 if place in places else leader_for_partition(metadata, place)

    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", leader)
    yield places
    places.clear()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[TopicPartition, KafkaError]]:
    """Partitions that take nothing, and what the broker answers for them."""
    places: dict[TopicPartition, KafkaError] = {}
    send = SendProduceReqHandler.do

    async def do(handler: Any, node: int) -> None:
        batches = handler._batches
        handler._batches = {place: batch for place, batch in batches.items() if place not in places}
        if handler._batches:
            await send(handler, node)
        for place in batches.keys() - handler._batches.keys():
            error = places.get(place, NotEnoughReplicasError())
            if handler._can_retry(error, batches[place]):
                await asyncio.sleep(PAUSE_S)
                handler._sender._message_accumulator.reenqueue(batches[place])
            else:
                batches[place].failure(exception=error)

    monkeypatch.setattr(SendProduceReqHandler, "do", do)
    yield places
    places.clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaProducer]:
    """The producers that partitions share, one after the other."""
    producers: list[AIOKafkaProducer] = []

    def make(settings: ServiceSettings) -> AIOKafkaProducer:
        producers.append(new_producer(settings))
        return producers[-1]

    monkeypatch.setattr("shared.sending.new_producer", make)
    return producers


async def test_two_relays_keep_the_order_and_one_takes_over(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    members = [uuid4() for _ in range(7)]
    relays = [Relay(settings, pool, pool) for _ in range(2)]
    running = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        await put(pool, events_of(members, 20))
        await eventually(lambda: empty(pool))
        assert sum(relay.leading for relay in relays) == 1
        leader = next(number for number, relay in enumerate(relays) if relay.leading)
        running[leader].cancel()
        await asyncio.gather(running[leader], return_exceptions=True)
        await put(pool, [(m, encode(pain(m, 1, event_id="last"))) for m in members])
        await eventually(lambda: empty(pool))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    read = await consume(ACTIVITY, count=7 * 21)
    for member in members:
        told = [event["id"] for event in read if event["subject"] == str(member)]
        assert told == [str(number) for number in range(20)] + ["last"]


async def test_a_record_that_kafka_refuses_holds_up_its_member_only(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    refused, *others = (uuid4() for _ in range(6))
    await put(pool, [(refused, encode(pain(refused, 1, event_id="refused")))])
    await pool.execute(TOO_OLD, refused)
    await put(pool, [(refused, encode(pain(refused, 2, event_id="behind"))), *events_of(others, 5)])
    async with relaying(settings, pool):
        read = await consume(ACTIVITY, count=25)
        assert {event["subject"] for event in read} == {str(member) for member in others}

        async def others_are_acknowledged() -> bool:
            return bool(await pool.fetchval("select count(*) = 2 from delivery.outbox"))

        await eventually(others_are_acknowledged)
        await pool.execute("update delivery.outbox set created_at = clock_timestamp()")
        await eventually(lambda: empty(pool), within=30)
    assert ids_of(await consume(ACTIVITY, count=27), refused) == ["refused", "behind"]


async def test_a_record_is_as_old_as_what_it_tells(settings: ServiceSettings, pool: Database, namespace: str) -> None:
    """Or the broker would not refuse what is older than inboxes remember, and it would take effect twice."""
    await put(pool, events_of([uuid4()], 1))
    aged = "update delivery.outbox set created_at = now() - interval '2 days 7.654321 seconds' returning created_at"
    created = (await pool.fetchval(aged)).timestamp()
    consumer = AIOKafkaConsumer(
        f"{namespace}.{ACTIVITY}", bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest"
    )
    async with relaying(settings, pool), consumer:
        record = await asyncio.wait_for(consumer.getone(), 20)
        assert abs(record.timestamp / 1000 - created) < 0.001


SWAP = """
with gone as (delete from delivery.outbox where member_id = $1 returning outbox_id)
insert into delivery.outbox (outbox_id, topic, member_id, value) overriding system value
select outbox_id, $2, $3, $4 from gone
"""
CUT = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%delete from delivery.outbox%'
"""


async def test_a_number_that_was_drawn_again_is_not_deleted(
    settings: ServiceSettings, pool: Database, consume: Consume
) -> None:
    """The database fails over to a replica that lacks the last transactions, and draws their numbers once more, while
    the relay still means to delete what it has sent under them."""
    lost, new = uuid4(), uuid4()
    await put(pool, [(lost, encode(pain(lost, 1, event_id="lost")))])
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select from delivery.outbox for update")
        async with relaying(settings, pool):
            assert ids_of(await consume(ACTIVITY, count=1), lost) == ["lost"]
            await eventually(lambda: pool.fetchval(CUT), what="the deletion was cut off")
            await connection.execute(SWAP, lost, ACTIVITY, new, encode(pain(new, 1, event_id="new")))
            await transaction.commit()
            assert ids_of(await consume(ACTIVITY, count=2), new) == ["new"]
            await eventually(lambda: empty(pool))


async def test_a_topic_that_does_not_exist_costs_only_itself(
    settings: ServiceSettings, pool: Database, consume: Consume, topics: TopicFactory
) -> None:
    stranger, *others = (uuid4() for _ in range(4))
    await put(pool, events_of([stranger], FILLING), topic="careloop.visits")
    await put(pool, events_of(others, 5))
    async with relaying(settings, pool) as relay:
        await consume(ACTIVITY, count=15, within=AT_ONCE_S)
        await put(pool, events_of(others, 5))
        await consume(ACTIVITY, count=30, within=AT_ONCE_S)
        await topics("careloop.visits")
        await eventually(lambda: empty(pool), within=30)
        assert relay._bulk
        assert not len(relay._bulk._topics), "once it is there it is like any other"
    assert ids_of(await consume("careloop.visits", count=FILLING), stranger) == numbers(FILLING)


async def test_a_topic_that_is_made_anew_with_fewer_partitions_gets_everything(
    settings: ServiceSettings, pool: Database, consume: Consume, servers: RunningServers
) -> None:
    """Or what the partitions that are gone would have got would wait until somebody starts the service anew."""
    members = [member_in(partition) for partition in range(3)]
    async with relaying(settings, pool):
        await put(pool, events_of(members, 1))
        await eventually(lambda: empty(pool))
        await remake_topic(servers.kafka_bootstrap, f"{settings.namespace}.{ACTIVITY}", partitions=1)
        await put(pool, events_of(members, 2))
        await eventually(lambda: empty(pool), within=30)
    read = await consume(ACTIVITY, count=6)
    assert {member: ids_of(read, member) for member in members} == dict.fromkeys(members, numbers(2))


async def test_a_partition_without_a_leader_costs_only_itself(
    settings: ServiceSettings, pool: Database, consume: Consume, leaderless: set[TopicPartition]
) -> None:
    """Its rows fill more than a read, and come first."""
    cut_off, other = member_in(0), member_in(1)
    leaderless.add(TopicPartition(f"{settings.namespace}.{ACTIVITY}", 0))
    await put(pool, events_of([cut_off], FILLING))
    await put(pool, events_of([other], 5))
    async with relaying(settings, pool):
        read = await consume(ACTIVITY, count=5, within=AT_ONCE_S)
        assert {event["subject"] for event in read} == {str(other)}
        await put(pool, events_of([other], 5))
        await consume(ACTIVITY, count=10, within=AT_ONCE_S)
        leaderless.clear()
        await eventually(lambda: empty(pool), within=30)
    read = await consume(ACTIVITY, count=FILLING + 10)
    assert ids_of(read, cut_off) == numbers(FILLING)
    assert ids_of(read, other) == [*numbers(5), *numbers(5)]


async def test_a_partition_that_loses_its_leader_costs_only_itself(
    settings: ServiceSettings, pool: Database, consume: Consume, leaderless: set[TopicPartition]
) -> None:
    cut_off, other = member_in(0), member_in(1)
    async with relaying(settings, pool) as relay:
        await put(pool, events_of([cut_off, other], 1))
        await eventually(lambda: empty(pool))
        leaderless.add(TopicPartition(f"{settings.namespace}.{ACTIVITY}", 0))
        for number in range(1, 4):
            await put(pool, [(m, encode(pain(m, 1, event_id=f"{number}"))) for m in (cut_off, other)])
            read = await consume(ACTIVITY, count=1 + number, within=AT_ONCE_S)
            assert ids_of(read, other) == numbers(1 + number)
        leaderless.clear()
        await eventually(lambda: empty(pool), within=30)
        assert relay._bulk
        assert not len(relay._bulk._places), "what has healed is handed over as if nothing had been"
    read = await consume(ACTIVITY, count=8)
    assert ids_of(read, cut_off) == ids_of(read, other) == numbers(4)


@pytest.mark.parametrize("error", [NotEnoughReplicasError(), TopicAuthorizationFailedError(), UnknownError()], ids=repr)
async def test_a_partition_that_fails_costs_only_itself(
    settings: ServiceSettings,
    pool: Database,
    consume: Consume,
    topics: TopicFactory,
    failing: dict[TopicPartition, KafkaError],
    made: list[AIOKafkaProducer],
    error: KafkaError,
) -> None:
    """The client tries the first again for ever. None is taken for the fault of a record: its member would be held up
    everywhere."""
    unlucky, other = member_in(0), member_in(1)
    await topics(PLANS)
    async with relaying(settings, pool):
        await put(pool, events_of([unlucky, other], 1))
        await eventually(lambda: empty(pool))
        failing[TopicPartition(f"{settings.namespace}.{ACTIVITY}", 0)] = error
        await put(pool, [(unlucky, encode(pain(unlucky, 1, event_id=f"{number}"))) for number in range(1, FILLING)])
        async with asyncio.timeout(3 * PAUSE_S):
            for number in range(1, 9):
                await put(pool, [(other, encode(pain(other, 1, event_id=f"{number}")))])
                await put(pool, [(unlucky, encode(pain(unlucky, 1, event_id=f"{number}")))], topic=PLANS)
                await consume(ACTIVITY, count=2 + number)
                await consume(PLANS, count=number)
                assert RELAY_BACKOFF._value.get() == 0
        assert len(made) <= 3  # not another one with each try
        failing.clear()
        await eventually(lambda: empty(pool), within=30)
        await eventually(lambda: [one._closed for one in made] == [*[True] * (len(made) - 1), False], within=20)
    read = await consume(ACTIVITY, count=FILLING + 9)
    assert ids_of(read, unlucky) == numbers(FILLING)
    assert ids_of(read, other) == numbers(9)


async def test_a_refused_record_leaves_the_rest_of_its_partition_alone(
    settings: ServiceSettings, pool: Database, consume: Consume, made: list[AIOKafkaProducer]
) -> None:
    """An idempotent producer is out of sequence in a partition that has refused a batch after taking others, and is
    replaced; that the record is tried again later costs no producer."""
    refused, *others = (member_in(0) for _ in range(4))
    tries = RELAY_FAILURES.labels("InvalidTimestampError")._value
    before, backing_off = tries.get(), RELAY_BACKOFF._value.get()
    async with relaying(settings, pool):
        await put(pool, events_of([refused, *others], 1))
        await eventually(lambda: empty(pool))
        async with pool.acquire() as connection, connection.transaction():
            await put(connection, [(m, encode(pain(m, 1, event_id="1"))) for m in (refused, *others)])
            await connection.execute(TOO_OLD, refused)
        for number in range(2, 6):
            await put(pool, [(m, encode(pain(m, 1, event_id=f"{number}"))) for m in (refused, *others)])
            await consume(ACTIVITY, count=4 + number * len(others), within=AT_ONCE_S)
        await eventually(lambda: tries.get() >= before + 3)
        assert len(made) == 2
        await eventually(lambda: made[0]._closed, within=10, what="nobody uses it any more")
        await pool.execute("update delivery.outbox set created_at = clock_timestamp()")
        await eventually(lambda: empty(pool), within=30)
        assert RELAY_BACKOFF._value.get() == backing_off, "once it is taken its member is like everybody else"
    read = await consume(ACTIVITY, count=24)
    for member in (refused, *others):
        assert ids_of(read, member) == numbers(6)


async def test_the_leader_is_told_again_of_what_was_committed_while_it_was_told() -> None:
    """Given a process that does not lead, when it commits again before the first notice is on its way, then there is a
    second one; and a red flag is told beside the rest, which may be waiting for a connection."""
    told, may_go = list[str](), asyncio.Event()

    class Telling:
        async def execute(self, _statement: str, _channel: str, what: str) -> None:
            told.append(what)
            if not what:
                await may_go.wait()

    settings = ServiceSettings(database_url="postgresql://not.used", namespace="test", port=0)
    telling: Any = Telling()
    relay = Relay(settings, telling, telling)
    relay.wake()
    await eventually(lambda: told == [""], within=5)
    relay.wake()
    relay.wake()
    relay.wake(urgent=True)
    await eventually(lambda: told == ["", URGENT], within=5)
    may_go.set()
    await eventually(lambda: told == ["", URGENT, ""], within=5)
    relay.wake()
    await eventually(lambda: told == ["", URGENT, "", ""], within=5)


async def test_the_leader_wakes_what_it_was_told_of() -> None:
    woken: list[str] = []
    relay = Relay(cast(Any, object()), cast(Any, object()), cast(Any, object()))
    relay._urgent = cast(Any, SimpleNamespace(wake=lambda: woken.append("urgent")))
    relay._bulk = cast(Any, SimpleNamespace(wake=lambda: woken.append("bulk")))
    relay._on_notify(None, 1, CHANNEL, URGENT)
    assert "urgent" in woken
    woken.clear()
    relay._on_notify(None, 1, CHANNEL, "")
    assert woken == ["bulk"]


async def test_many_members_whose_events_are_refused_hold_up_nobody_else(
    settings: ServiceSettings, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more rows of such members than a round reads, when others have something to publish, then it goes out."""
    monkeypatch.setattr("shared.relay.READ_MAX", 40)
    refused, other = [uuid4() for _ in range(60)], uuid4()
    await put(pool, events_of(refused, 4))
    await pool.execute("update delivery.outbox set created_at = created_at - interval '40 days'")
    async with relaying(settings, pool) as relay:
        await eventually(lambda: relay._bulk and len(relay._bulk._members) == 60, within=30, what="all are refused")
        await put(pool, [(other, encode(pain(other, 1)))])

        async def is_out() -> bool:
            return bool(await pool.fetchval("select count(*) = 0 from delivery.outbox where member_id = $1", other))

        await eventually(is_out, within=60, what="somebody else's event is handed over")
