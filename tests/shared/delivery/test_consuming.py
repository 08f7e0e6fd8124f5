"""Given records on a real broker, when a service consumes them, then the rows tell what took effect."""

from datetime import datetime
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from shared.database import Connection
from shared.events.codec import HEADERS, encode
from shared.hosting import Pending
from shared.partitioning import partition_of
from shared.telemetry import WRONG_PARTITION
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume, Publish, RunningService, member_key
from tests.shared.delivery.conftest import effects_are, effects_of, held
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused


async def test_events_take_effect_once_in_order(probe: RunningService, publish: Publish) -> None:
    members = [uuid4() for _ in range(5)]
    events = [pain(member, score) for score in (1, 2, 3) for member in members]
    await publish(ACTIVITY, *events, *events)

    async def done() -> bool:
        return all([await effects_of(probe, member) == [1, 2, 3] for member in members])

    await eventually(done)
    await probe.settled()
    position = await probe.service.database.fetchrow(
        "select sum(records_read) as read, sum(records_new) as new, sum(records_duplicate) as duplicate"
        " from delivery.positions where consumer_group = 'probe.activity'"
    )
    assert position
    assert dict(position) == {"read": 30, "new": 15, "duplicate": 15}


async def test_work_that_moves_on_while_progress_is_read_is_not_missed(probe: RunningService, publish: Publish) -> None:
    """What was still in the log when the effects were counted is not done when the log is asked next."""
    await probe.settled()
    counted = 0

    async def count_effects(connection: Connection, now: datetime) -> int:
        nonlocal counted
        counted = await connection.fetchval("select count(*) from effects")
        await publish(ACTIVITY, pain(uuid4(), 1))
        await eventually(lambda: probe.service.database.fetchval("select count(*) > $1 from effects", counted))
        return 0

    probe.service.pending = [Pending("effects", count_effects)]
    answer = (await probe.client.get("/health/progress")).json()
    assert not answer["settled"], answer
    assert counted == 0


async def test_what_a_handler_publishes_reaches_kafka_once_in_order_with_its_cause(
    probe: RunningService, publish: Publish, consume: Consume
) -> None:
    member = uuid4()
    events = [pain(member, score) for score in (3, 1, 2)]
    await publish(ACTIVITY, *events)
    read = await consume("careloop.plans", count=3)
    assert [event["data"]["score"] for event in read] == [3, 1, 2]
    assert [event["causationid"] for event in read] == [event.id for event in events]
    assert {event["correlationid"] for event in read} == {event.chain for event in events}
    assert len({event["id"] for event in read}) == 3


async def test_a_bug_parks_its_member_and_nobody_else(probe: RunningService, publish: Publish) -> None:
    guilty, other = uuid4(), uuid4()
    await publish(
        ACTIVITY, pain(guilty, 1), pain(other, 1), pain(guilty, 9), pain(guilty, 2), pain(other, 2), pain(guilty, 3)
    )
    await probe.settled()
    assert await effects_of(probe, other) == [1, 2]
    assert await effects_of(probe, guilty) == [1]
    rows = await held(probe)
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("dead", "bug"),
        ("parked", "behind"),
        ("parked", "behind"),
    ]
    assert "ProbeBug" in rows[0]["detail"]
    await publish(ACTIVITY, pain(guilty, 4), pain(other, 3))
    await probe.settled()
    assert await effects_of(probe, other) == [1, 2, 3]
    assert len(await held(probe)) == 4


async def test_an_early_event_waits_in_order_and_is_released_with_what_it_needs(
    probe: RunningService, publish: Publish
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1), pain(member, 8), pain(member, 2), pain(member, 3))
    await probe.settled()
    assert await effects_of(probe, member) == [1]
    rows = await held(probe)
    assert (rows[0]["state"], rows[0]["reason"]) == ("waiting", "member")
    await publish(MEMBERS, paused(member))
    await eventually(lambda: effects_are(probe, member, [1, 8, 2, 3]))
    assert await held(probe) == []
    outcomes = await probe.service.database.fetch("select outcome, count(*) from delivery.inbox group by 1 order by 1")
    assert {row["outcome"] for row in outcomes} == {"applied"}


async def test_a_refusal_is_recorded_and_nothing_is_parked(probe: RunningService, publish: Publish) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1), pain(member, 7), pain(member, 2))
    await probe.settled()
    assert await effects_of(probe, member) == [1, 2]
    refused = await probe.service.database.fetch("select outcome, detail from delivery.inbox where outcome = 'refused'")
    assert [(row["outcome"], row["detail"]) for row in refused] == [("refused", "seven")]


async def test_a_red_flag_passes_what_is_parked(probe: RunningService, publish: Publish, consume: Consume) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 9), pain(member, 2, findings=("chest-pain-breathless",)))
    read = await consume("careloop.plans", count=1)
    assert read[0]["type"] == "org.careloop.safety.flagged.v1"
    await probe.settled()
    assert await effects_of(probe, member) == []


NOT_AN_EVENT = b'{"specversion": "1.0"'


async def test_bad_input_becomes_dead_letters_while_neighbours_proceed(probe: RunningService, publish: Publish) -> None:
    member, neighbour = uuid4(), uuid4()
    key = member_key(member)
    good = orjson.loads(encode_pain(member, 1))
    cases: list[tuple[str, bytes | None, bytes | None]] = [
        ("malformed", NOT_AN_EVENT, None),
        ("malformed", b"\xff\xfe\x00", b"not a uuid"),
        ("null-value", None, key),
        ("oversized", b"x" * 70_000, key),
        ("unknown-type", orjson.dumps({**good, "type": "org.careloop.unheard.of.v1"}), None),
        ("invalid", orjson.dumps({**good, "data": {**good["data"], "score": 11}}), None),
        ("wrong-key", encode_pain(member, 1), member_key(neighbour)),
        ("wrong-key", encode_pain(member, 1), None),
        ("time-ahead", orjson.dumps({**good, "id": "ahead", "time": "2100-01-01T00:00:00Z"}), key),
        ("too-old", orjson.dumps({**good, "id": "old", "time": "2020-01-01T00:00:00Z"}), key),
    ]
    for _, value, record_key in cases:
        await publish.raw(ACTIVITY, value, key=record_key)
    await publish.raw(ACTIVITY, encode_pain(member, 5), key=key, headers=[("x-null", None)])
    await publish(ACTIVITY, pain(neighbour, 1), pain(member, 2))
    await probe.settled()
    rows = await held(probe)
    told = [(row["reason"], row["detail"]) for row in rows]
    assert sorted(row["reason"] for row in rows) == sorted(reason for reason, _, _ in cases), told
    assert {row["state"] for row in rows} == {"dead"}
    assert [row["value"] for row in rows if row["reason"] == "malformed"]
    assert await effects_of(probe, neighbour) == [1]
    assert await effects_of(probe, member) == [5, 2]


async def test_an_unreadable_event_of_a_known_member_parks_the_member(probe: RunningService, publish: Publish) -> None:
    member, other = uuid4(), uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await publish.raw(ACTIVITY, NOT_AN_EVENT, key=member_key(member))
    await publish(ACTIVITY, pain(member, 2), pain(other, 1))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["dead", "parked"]
    assert await effects_of(probe, member) == [1]
    assert await effects_of(probe, other) == [1]


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_identity_with_another_body_is_a_dead_letter(
    probe: RunningService, publish: Publish, together: bool
) -> None:
    member = uuid4()
    first, second = pain(member, 1, event_id="same"), pain(member, 2, event_id="same")
    if together:
        await publish(ACTIVITY, first, second, first, pain(member, 3))
    else:
        await publish(ACTIVITY, first)
        await probe.settled()
        await publish(ACTIVITY, second, first, pain(member, 3))
    await probe.settled()
    assert await effects_of(probe, member) == [1, 3]
    assert [row["reason"] for row in await held(probe)] == ["identity-conflict"]


async def test_a_publisher_with_another_partitioner_is_counted_and_its_events_take_effect(
    probe: RunningService, publish: Publish
) -> None:
    def counted() -> float:
        return float(WRONG_PARTITION.labels(ACTIVITY)._value.get())

    member, before = uuid4(), counted()
    right = partition_of(member, 2)
    await publish.raw(ACTIVITY, encode_pain(member, 1), key=member_key(member), partition=right)
    await publish.raw(ACTIVITY, encode_pain(member, 2), key=member_key(member), partition=1 - right)
    await probe.settled()
    assert sorted(await effects_of(probe, member)) == [1, 2]
    groups_of_the_topic = 2
    assert counted() - before == groups_of_the_topic


async def test_what_its_publisher_took_back_is_no_work_that_is_left(
    probe: RunningService, servers: RunningServers, namespace: str
) -> None:
    """Given a transaction that was aborted, then nobody reads what was in it, nor is it behind."""
    member = uuid4()
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, transactional_id=f"{namespace}-never")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(
            topic_name(namespace, ACTIVITY), encode_pain(member, 1), key=member_key(member), headers=list(HEADERS)
        )
        await producer.abort_transaction()
    finally:
        await producer.stop()
    await probe.settled()
    assert await effects_of(probe, member) == []


async def test_counts_add_up(probe: RunningService, publish: Publish) -> None:
    member = uuid4()
    await publish(ACTIVITY, *[pain(uuid4(), score) for score in (1, 7, 8, 9)], pain(member, 9), pain(member, 1))
    await publish.raw(ACTIVITY, NOT_AN_EVENT, key=None)
    await probe.settled()
    row = await probe.service.database.fetchrow(
        "select sum(records_read) as read, sum(records_new) as new, sum(records_refused) as refused,"
        " sum(records_dead) as dead, sum(records_parked) as parked, sum(records_waiting) as waiting,"
        " sum(next_offset - first_offset) as advanced from delivery.positions where consumer_group = 'probe.activity'"
    )
    assert row
    assert dict(row) == {"read": 7, "new": 1, "refused": 1, "dead": 3, "parked": 1, "waiting": 1, "advanced": 7}


def encode_pain(member: UUID, score: int) -> bytes:
    return encode(pain(member, score))
