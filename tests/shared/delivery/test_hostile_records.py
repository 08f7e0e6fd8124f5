"""Given records that no careful client writes, when a group reads them, then they cost themselves and nobody else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from shared.database import Connection
from shared.events import PainReported, PainSettled
from shared.events.codec import encode
from shared.held_events import load_held
from shared.kafka import BATCH_BYTES
from shared.outcomes import Outcomes, Write
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume, Publish, RunningService, RunService, member_key
from tests.shared.delivery.books import Books
from tests.shared.delivery.conftest import (
    PARTITIONS,
    RED_FLAG,
    effects_are,
    effects_of,
    held,
    neighbour_of,
    partition_of,
)
from tests.shared.delivery.probe import ACTIVITY, build, follow_activity, pain, paused

NOT_AN_EVENT = b'{"specversion": "1.0"'
NUL_NAME = [("a\x00b", b"1")]


async def goes_on(probe: RunningService, publish: Publish, member: UUID) -> None:
    """Others of the same partition are taken, and their red flags are seen."""
    neighbour = neighbour_of(member)
    await publish(ACTIVITY, pain(neighbour, 1))
    await eventually(partial(effects_are, probe, neighbour, [1]), within=20)


async def test_a_nul_in_the_header_name_of_what_cannot_be_read(probe: RunningService, publish: Publish) -> None:
    member = uuid4()
    await publish.raw(ACTIVITY, NOT_AN_EVENT, key=member_key(member), headers=NUL_NAME)
    await goes_on(probe, publish, member)
    (row,) = await held(probe)
    assert (row["state"], row["value"]) == ("dead", NOT_AN_EVENT)


async def test_a_nul_in_the_header_name_of_what_is_parked(probe: RunningService, publish: Publish) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8))
    await publish.raw(ACTIVITY, encode(pain(member, 1)), key=member_key(member), headers=NUL_NAME)
    await goes_on(probe, publish, member)
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_publisher_that_compresses(
    probe: RunningService, publish: Publish, servers: RunningServers, namespace: str, codec: str
) -> None:
    member = uuid4()
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka_bootstrap, compression_type=codec, linger_ms=50
    ) as producer:
        sent = [
            await producer.send(topic_name(namespace, ACTIVITY), encode(pain(member, score)), key=member_key(member))
            for score in range(7)
        ]
        for one in sent:
            await one
    await eventually(partial(effects_are, probe, member, list(range(7))), within=20)
    await goes_on(probe, publish, member)


async def test_batches_of_which_one_answer_brings_not_even_one(
    probe: RunningService, servers: RunningServers, namespace: str
) -> None:
    """The broker answers for one partition with a whole batch, and for the other with nothing."""
    members = [next(one for one in iter(uuid4, None) if partition_of(one) == number) for number in range(PARTITIONS)]
    scores = [number % 7 for number in range(BATCH_BYTES // len(encode(pain(members[0], 1))) + 1)]
    async with AIOKafkaProducer(
        bootstrap_servers=servers.kafka_bootstrap, max_batch_size=4 * BATCH_BYTES, linger_ms=1_000
    ) as producer:
        topic = topic_name(namespace, ACTIVITY)
        sent = [
            await producer.send(topic, encode(pain(member, score)), key=member_key(member))
            for score in scores
            for member in members
        ]
        for one in sent:
            await one
    for member in members:
        await eventually(partial(effects_are, probe, member, scores), within=20)


async def take_back(score: int, servers: RunningServers, namespace: str, member: UUID, *, before: int) -> None:
    """Publish a score and take it back, and then another that counts."""
    topic = topic_name(namespace, ACTIVITY)
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, transactional_id=str(uuid4())) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, encode(pain(member, score)), key=member_key(member))
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, encode(pain(member, before)), key=member_key(member))
        await producer.commit_transaction()


async def test_what_its_publisher_took_back_has_no_effect(
    probe: RunningService, publish: Publish, servers: RunningServers, namespace: str
) -> None:
    member = uuid4()
    await take_back(1, servers, namespace, member, before=2)
    await eventually(partial(effects_are, probe, member, [2]), within=20)
    await probe.settled()  # the marker that ends a transaction is no record to wait for
    await publish(ACTIVITY, pain(member, 3))
    await eventually(partial(effects_are, probe, member, [2, 3]), within=20)


async def test_a_gap_that_could_not_be_judged_is_judged_again(
    probe: RunningService, servers: RunningServers, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong when the log was asked: its partition was paused until then."""
    asked = list[int]()

    def failing(consumer: Any) -> Any:
        ask = consumer.beginning_offsets

        async def fail_once(partitions: Any) -> Any:
            if len(partitions) > 1:  # all of them are looked at now and then
                return await ask(partitions)
            asked.append(partitions[0].partition)
            if len(asked) == 1:
                raise LookupError
            return await ask(partitions)

        return fail_once

    await probe.settled()
    for intake in probe.service.intakes:
        if intake.subscription.group == "probe.activity":
            monkeypatch.setattr(intake.consumer, "beginning_offsets", failing(intake.consumer))
    member = uuid4()
    await take_back(1, servers, namespace, member, before=2)
    await eventually(partial(effects_are, probe, member, [2]), within=20)
    assert len(asked) > 1


async def test_nothing_is_left_to_do_behind_much_that_was_taken_back(
    probe: RunningService, publish: Publish, servers: RunningServers, namespace: str
) -> None:
    """At the end of its partition: no record follows by which the group could pass it."""
    member, topic = uuid4(), topic_name(namespace, ACTIVITY)
    await publish(ACTIVITY, pain(member, 1))
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, transactional_id=str(uuid4()))
    async with producer:
        await producer.begin_transaction()
        for _ in range(30):
            await producer.send_and_wait(topic, encode(pain(member, 2)), key=member_key(member))
        await producer.abort_transaction()
    await probe.settled()
    await publish(ACTIVITY, pain(member, 3))
    await eventually(partial(effects_are, probe, member, [1, 3]), within=20)


def missing_file(event: PainReported, outcomes: Outcomes) -> None:
    with open("/nonexistent/template"):
        pass


def wrong_data(event: PainReported, outcomes: Outcomes) -> None:
    outcomes.publish(PainSettled, paused(event.subject).data, because=event)


def impossible_write(event: PainReported, outcomes: Outcomes) -> None:
    outcomes.writes.append(Write("delete from delivery.outbox where 1 / $1::int = 0", [0]))


@pytest.mark.parametrize("bug", [missing_file, wrong_data, impossible_write])
async def test_bugs_that_look_like_something_else_cost_one_event(
    run_service: RunService, probe_url: str, publish: Publish, bug: Any
) -> None:
    """A file that is missing is no failure of the database; a draft that cannot be published is the handler's bug,
    and so is what it left to be written and cannot be."""

    async def activity(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
        outcomes = await follow_activity(connection, events, now=now)
        for event in events:
            if event.data.score == 5:
                bug(event, outcomes)
        return outcomes

    async with run_service(partial(build, activity=activity), name="probe", database_url=probe_url) as probe:
        member = uuid4()
        await publish(ACTIVITY, pain(member, 1), pain(member, 5), pain(member, 2))
        await goes_on(probe, publish, member)
        assert await effects_of(probe, member) == [1]
        assert [(row["state"], row["reason"]) for row in await held(probe)] == [("dead", "bug"), ("parked", "behind")]


async def test_a_record_that_cannot_even_be_held_is_kept_bare(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the database might refuse of a record that must be held: it does not hold up the partition."""
    monkeypatch.setattr("shared.held_events._pack_headers", lambda headers: "no JSON" if headers else "[]")
    member = uuid4()
    await publish.raw(ACTIVITY, NOT_AN_EVENT, key=member_key(member), headers=[("x", b"1")])
    await goes_on(probe, publish, member)
    (row,) = await held(probe)
    assert (row["reason"], row["value"], row["member_id"]) == ("cannot-be-held", NOT_AN_EVENT, member)


async def test_a_record_of_a_topic_made_anew_is_not_taken_for_an_old_one(
    probe: RunningService, publish: Publish
) -> None:
    """Offsets of a topic that was deleted and made again begin at zero: a dead letter of the former stands at the same
    place, but not at the same time."""
    old = uuid4()
    new = neighbour_of(old)
    await publish(ACTIVITY, pain(old, 9))
    await probe.settled()
    end = "select next_offset from delivery.positions where consumer_group = 'probe.activity' and partition = $1"
    database = probe.service.database
    offset = await database.fetchval(end, partition_of(old))
    await database.execute(
        "update delivery.held_events set record_offset = $1 where consumer_group = 'probe.activity'", offset
    )
    await publish(ACTIVITY, pain(new, 9), pain(new, 2))
    await probe.settled()
    rows = [(row["member_id"], row["state"]) for row in await held(probe)]
    assert rows == [(old, "dead"), (new, "dead"), (new, "parked")]


async def test_a_red_flag_in_a_compressed_batch_is_seen(
    probe: RunningService, consume: Consume, servers: RunningServers, namespace: str
) -> None:
    member = uuid4()
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, compression_type="zstd") as producer:
        event = pain(member, 1, findings=RED_FLAG)
        for _ in range(2):  # a batch of one small record is not packed
            await producer.send(topic_name(namespace, ACTIVITY), encode(event) + b" " * 500, key=member_key(member))
    types = {event["type"] for event in await consume("careloop.plans", count=2)}
    assert "org.careloop.safety.flagged.v1" in types


async def test_what_is_held_is_kept_as_it_lay_in_the_log(books: Books) -> None:
    """Its next reader may be the first to know what a header without a value says, or one that is there twice."""
    headers = [("a", None), ("a", b""), ("b", b"\xff\x00"), ("a", b"1")]
    record = replace(books.write_raw(b"{\xff", key=uuid4()), headers=headers)
    await books.take(record)
    (row,) = await books.held()
    async with books.transaction() as connection:
        found = await load_held(connection, row["held_id"])
    assert found is not None
    assert (found.headers, found.value, found.record_key) == (headers, record.value, record.key)
    assert found.record_at == datetime.fromtimestamp(record.timestamp / 1000, UTC)


async def test_a_record_whose_time_no_calendar_has_is_one_dead_letter(books: Books) -> None:
    """Where a broker takes any time."""
    ahead, before = (replace(books.write_raw(b"{", key=uuid4()), timestamp=at) for at in (2**62, -1))
    taken = await books.take(ahead, before, books.write(pain(uuid4(), 1)))
    assert (taken.counts.dead, taken.counts.new) == (2, 1)
