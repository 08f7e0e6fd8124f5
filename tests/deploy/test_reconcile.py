"""Given the books of a service that took all of a log, when something is lost or doubled, reconcile tells just that."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.reconciliation import reconcile as module
from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.database import Connection
from shared.events import CloudEvent
from shared.events.codec import HEADERS, encode
from shared.outcomes import Outcomes
from shared.service import Service
from tests.deploy.given_books import ACTIVITY, NOT_AN_EVENT, Books, ago, join
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunService, member_key
from tests.fixtures.topics import admin_client
from tests.journeys.events import session

BUG_PAIN = 10


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CATCH_UP_S", 0.5)
    monkeypatch.setattr(module, "WATCH_S", 0.2)


OF_ACTIVITY = "consumer_group = 'plans.activity'"
HELD = "select identity from delivery.held_events where " + OF_ACTIVITY
DISAGREES = "plans: 1 held events do not agree with the inbox"
NOT_HELD = "plans: 1 events are dead, parked or waiting in the inbox, but are not held"
IN_LOG = 5
DAMAGES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "nothing": ((), ()),
    "a stuck outbox row": (
        ["insert into delivery.outbox (topic, member_id, value) values ('careloop.plans', gen_random_uuid(), '{}')"],
        ["plans: the oldest of 1 outbox rows has not moved for 0 s"],
    ),
    "an overdue timer": (
        [
            "insert into delivery.timers (kind, key, member_id, due_at, payload, cause)"
            " values ('plan.lapse', 'lost', gen_random_uuid(), now() - interval '1 hour', '{}', '{}')"
        ],
        ["plans: 1 timers of kind plan.lapse are overdue"],
    ),
    **{
        f"a {state} event that the inbox calls applied": (
            [f"update delivery.inbox set outcome = 'applied' where identity in ({HELD} and state = '{state}')"],
            [DISAGREES],
        )
        for state in ("dead", "parked", "waiting")
    },
    **{
        f"a {state} event that is lost": (
            [f"delete from delivery.held_events where {OF_ACTIVITY} and state = '{state}'"],
            [NOT_HELD],
        )
        for state in ("dead", "parked", "waiting")
    },
    "a held event that the inbox does not know": (
        [f"delete from delivery.inbox where identity in ({HELD} and state = 'parked')"],
        [DISAGREES, "plans.activity: 1 records of the log are not in the inbox"],
    ),
    "a dead letter that an operator discarded": (
        [
            f"update delivery.inbox set outcome = 'discarded' where identity in ({HELD} and state = 'dead')",
            f"delete from delivery.held_events where {OF_ACTIVITY} and state = 'dead'",
        ],
        [],
    ),
    "outcomes that do not add up": (
        [f"update delivery.positions set records_new = records_new + 1 where {OF_ACTIVITY}"],
        [f"plans.activity: read {IN_LOG}, but its outcomes add up to {IN_LOG + 1}"],
    ),
    "a record that was counted twice": (
        [
            "update delivery.positions set records_read = records_read + 1, records_new = records_new + 1"
            f" where {OF_ACTIVITY}"
        ],
        [f"plans.activity: the log holds {IN_LOG}, read {IN_LOG + 1}"],
    ),
    "a record that the inbox does not know": (
        [
            "delete from delivery.inbox where identity ="
            " (select identity from delivery.inbox where outcome = 'applied' limit 1)"
        ],
        ["1 records of the log are not in the inbox"],
    ),
    "a position that fell back": (
        [f"update delivery.positions set next_offset = next_offset - 2 where {OF_ACTIVITY}"],
        ["plans.activity: 2 records behind", f"plans.activity: the log holds {IN_LOG - 2}, read {IN_LOG}"],
    ),
    "a position ahead of the log": (
        [f"update delivery.positions set next_offset = next_offset + 3 where {OF_ACTIVITY}"],
        [f"plans.activity: the position {IN_LOG + 3} lies beyond the end of the log, {IN_LOG}"],
    ),
    "a position that is gone": (
        [f"delete from delivery.positions where {OF_ACTIVITY}"],
        ["plans.activity has no position in careloop.activity 0, which holds records"],
    ),
    "a position where there is no log": (
        [
            "insert into delivery.positions (consumer_group, topic, partition, next_offset, first_offset)"
            " values ('plans.activity', 'careloop.activity', 7, 0, 0)"
        ],
        ["plans.activity has a position in careloop.activity 7, which does not exist"],
    ),
}


async def test_each_damage_is_told_and_nothing_else(books: Books) -> None:
    await books.keep()
    for damage, (statements, expected) in DAMAGES.items():
        await books.restore()
        await books.do(*statements)
        told = await books.check()
        assert len(told) == len(expected), (damage, told)
        assert all(line.endswith(wanted) for line, wanted in zip(told, expected, strict=True)), (damage, told)


async def test_what_the_inbox_may_have_forgotten_is_not_missing(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is kept for longer than the inbox holds records of which nobody knows any more."""
    await books.do("delete from delivery.inbox where outcome = 'applied'")
    assert any("not in the inbox" in told for told in await books.check())
    monkeypatch.setattr(module, "RETENTION_DAYS", 0)
    assert await books.check() == []


async def test_a_position_that_retention_has_passed_is_told(books: Books) -> None:
    place = TopicPartition(f"{books.namespace}.{ACTIVITY}", 0)
    async with admin_client(books.servers.kafka_bootstrap) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    assert await books.check() == []
    await books.do(f"update delivery.positions set next_offset = 1 where {OF_ACTIVITY}")
    assert await books.check() == ["plans.activity: the position 1 lies before the beginning of the log, 3"]


def build_with_bug(settings: PlansSettings) -> Service:
    """plans, whose handler of activity fails at a pain of ten."""
    service = build(settings)
    reader = service.readers["plans.activity"]
    real = reader.subscription.run

    async def fail_at_ten(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        if any(event.data.pain_during == BUG_PAIN for event in events):
            raise ZeroDivisionError
        return await real(connection, events, now=now)

    broken = replace(reader, subscription=replace(reader.subscription, run=fail_at_ten))
    service.readers = {**service.readers, "plans.activity": broken}
    return service


def changed(event: CloudEvent, **attributes: Any) -> bytes:
    return orjson.dumps({**orjson.loads(encode(event)), **attributes})


async def test_it_adds_up_after_every_kind_of_dead_letter(
    servers: RunningServers, namespace: str, log: None, database: DatabaseFactory, run_service: RunService,
    publish: Publish,
) -> None:  # fmt: skip
    url = await database("plans")
    members = [uuid4() for _ in range(11)]
    events = [session(member, 1, pain=3, at=ago(1)) for member in members]
    keys = [member_key(member) for member in members]
    async with run_service(build_with_bug, PlansSettings, name="plans", database_url=url) as running:
        await join(publish, *members)
        await running.settled()
        await publish.raw(ACTIVITY, NOT_AN_EVENT, key=keys[0])
        await publish.raw(ACTIVITY, changed(events[1], type="org.careloop.unheard.of.v1"), key=keys[1])
        await publish.raw(ACTIVITY, changed(events[2], data={"pain_during": 11}), key=keys[2])
        await publish.raw(ACTIVITY, encode(events[3]), key=keys[4])
        await publish.raw(ACTIVITY, changed(events[4], time="2020-01-01T00:00:00Z"), key=keys[4])
        await publish.raw(ACTIVITY, changed(events[5], time="2100-01-01T00:00:00Z"), key=keys[5])
        await publish(ACTIVITY, events[6], session(members[6], 1, pain=4, at=ago(1)))
        await publish.raw(ACTIVITY, None, key=keys[7])
        await publish.raw(ACTIVITY, NOT_AN_EVENT, key=keys[8], headers=[*HEADERS, ("x-null", None), ("x\0", b"\0")])
        await publish.raw(ACTIVITY, b"x" * 70_000, key=keys[9])
        await publish(ACTIVITY, session(members[10], 1, pain=BUG_PAIN, at=ago(1)))
        # Behind each of them, and what is published rightly after it.
        await publish(ACTIVITY, *[session(member, 2, pain=3, at=ago(0.5)) for member in members], *events[3:6])
        await running.settled()
        held = await running.service.database.fetch(
            f"select reason from delivery.held_events where {OF_ACTIVITY} and state = 'dead'"
        )
    assert sorted(row["reason"] for row in held) == [
        "bug", "identity-conflict", "invalid", "malformed", "malformed", "null-value", "oversized", "time-ahead",
        "too-old", "unknown-type", "wrong-key",
    ]  # fmt: skip
    assert await Books(servers, namespace, url).check() == []


async def test_it_adds_up_where_the_log_ends_with_a_transaction_that_was_rolled_back(
    servers: RunningServers, namespace: str, log: None, database: DatabaseFactory, run_service: RunService,
    publish: Publish,
) -> None:  # fmt: skip
    url, member = await database("plans"), uuid4()
    async with run_service(build, PlansSettings, name="plans", database_url=url) as running:
        await join(publish, member)
        async with AIOKafkaProducer(
            bootstrap_servers=servers.kafka_bootstrap, transactional_id=f"{namespace}-app"
        ) as producer:
            for number in (1, 2, 3):
                await producer.begin_transaction()
                event = session(member, number, pain=3, at=ago(1))
                await producer.send_and_wait(
                    f"{namespace}.{ACTIVITY}", encode(event), key=member_key(member), headers=list(HEADERS)
                )
                await (producer.abort_transaction() if number == 3 else producer.commit_transaction())
        await running.settled()
    books = Books(servers, namespace, url)
    assert await books.check() == []
    (line,) = [line for line in (await books.report()).lines if line.consumer_group == "plans.activity"]
    assert (line.in_log, line.read) == (2, 2)
    await books.do(f"update delivery.positions set next_offset = 0 where {OF_ACTIVITY}")
    assert "plans.activity: 2 records behind" in await books.check()


async def test_a_record_from_beyond_the_calendar_is_read(
    servers: RunningServers, namespace: str, log: None, database: DatabaseFactory, run_service: RunService
) -> None:
    """A broker with limits of its own may take one, and its consumers do."""
    url, topic = await database("plans"), f"{namespace}.{ACTIVITY}"
    settings = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    async with admin_client(servers.kafka_bootstrap) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])
    async with run_service(build, PlansSettings, name="plans", database_url=url) as running:
        async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap) as producer:
            await producer.send_and_wait(topic, NOT_AN_EVENT, timestamp_ms=2**61)
        await running.settled()
    books = Books(servers, namespace, url)
    assert await books.check() == []
    (line,) = [line for line in (await books.report()).lines if line.consumer_group == "plans.activity"]
    assert (line.in_log, line.classes["dead"]) == (1, 1)
