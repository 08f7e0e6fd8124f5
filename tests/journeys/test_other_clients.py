"""Given apps in other languages, when they publish with Kafka's own producers, then it counts as if over HTTP."""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Producer

from shared.partitioning import partition_of
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.journeys.clinic import Clinic, session_event

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
STRUCTURED = [("content-type", "application/cloudevents+json")]


class JavaProducer:
    def __init__(self, bootstrap: str, namespace: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic_name(namespace, "careloop.activity")

    async def send(self, *records: dict[str, Any]) -> list[list[int]]:
        """The [partition, offset] of each."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fixtures.java_producer", self._bootstrap,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        given = json.dumps([{"topic": self._topic, **record} for record in records]).encode()
        told, complaints = await asyncio.wait_for(process.communicate(given), 60)
        assert process.returncode == 0, complaints.decode()
        found: list[list[int]] = json.loads(told)
        return found


def structured(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"key": event["subject"], "value": json.dumps(event), "headers": STRUCTURED, **changes}


def binary(event: dict[str, Any]) -> dict[str, Any]:
    """As CloudEvents' binary mode has it: attributes in headers, the data alone in the value."""
    attributes = [[f"ce_{name}", value] for name, value in event.items() if name not in ("data", "datacontenttype")]
    headers = [*attributes, ["content-type", "application/json"]]
    return {"key": event["subject"], "value": json.dumps(event["data"]), "headers": headers}


async def status(clinic: Clinic, member: UUID, event: dict[str, Any]) -> Any:
    path = f"/v1/events/urn%3Atest%3Aapp/{event['id']}"
    return (await clinic.ask("plans", "GET", path, clinic.tokens.member(member)))["status"]


async def dead_letters(clinic: Clinic) -> list[tuple[str, int, int]]:
    """(reason, partition, offset) among the dead letters of what plans follows; stateless groups keep their own."""
    rows = await clinic.running["plans"].service.database.fetch(
        "select reason, partition, record_offset from delivery.held_events"
        " where state = 'dead' and consumer_group = 'plans.activity'"
    )
    return [(row["reason"], row["partition"], row["record_offset"]) for row in rows]


async def test_kafkas_own_java_producer(clinic: Clinic, servers: RunningServers, namespace: str) -> None:
    member = await clinic.enrol()
    plan = await clinic.ask("plans", "GET", f"/v1/members/{member}/plan", clinic.tokens.member(member))
    now = clinic.now()
    first = session_event(member, plan, pain=3, at=now - timedelta(hours=60))
    spike = session_event(member, plan, pain=8, at=now - timedelta(hours=1))
    pain = {
        **spike,
        "id": str(uuid4()),
        "type": "org.careloop.pain.reported.v1",
        "data": {"score": 8, "context": "now"},
    }
    stranger = str(uuid4())

    places = await JavaProducer(servers.kafka_bootstrap, namespace).send(
        structured(first),
        structured(first),
        structured(spike),
        binary(pain),
        {"key": stranger, "value": None, "headers": []},
        {"key": stranger, "value": "not an event", "headers": STRUCTURED},
        {"key": stranger, "value": "{}", "headers": [("content-type", None)]},
        structured(spike, key=stranger),
    )
    own = partition_of(member, 2)
    assert [partition for partition, _ in places[:4]] == [own] * 4, "both sides put a member on the same partition"

    async def all_read() -> bool:
        return [await status(clinic, member, event) for event in (first, spike, pain)] == ["applied"] * 3

    await eventually(all_read)
    await clinic.settled()
    alerts = await clinic.ask("messaging", "GET", f"/v1/members/{member}/alerts", clinic.tokens.coach(clinic.coach_id))
    assert [alert["kind"] for alert in alerts] == ["pain-spike"]
    dead = await dead_letters(clinic)
    assert {(partition, offset) for _, partition, offset in dead} == {(p, o) for p, o in places[4:]}
    assert "wrong-key" in {reason for reason, _, _ in dead}

    # The same identity with another body is refused, and so is nothing else.
    again = {**first, "data": {**first["data"], "pain_during": 0}}
    (place,) = await JavaProducer(servers.kafka_bootstrap, namespace).send(structured(again))

    async def refused() -> bool:
        return ("identity-conflict", *place) in await dead_letters(clinic)

    await eventually(refused)
    assert await status(clinic, member, first) == "applied"


async def test_librdkafka_with_the_partitioner_of_the_contract(
    clinic: Clinic, servers: RunningServers, namespace: str
) -> None:
    member = await clinic.enrol()
    plan = await clinic.ask("plans", "GET", f"/v1/members/{member}/plan", clinic.tokens.member(member))
    event = session_event(member, plan, pain=3, at=clinic.now())
    placed: list[int | None] = []
    producer = Producer({"bootstrap.servers": servers.kafka_bootstrap, "partitioner": "murmur2_random", "acks": "all"})
    producer.produce(
        topic_name(namespace, "careloop.activity"),
        key=str(member),
        value=json.dumps(event),
        headers=list(STRUCTURED),
        on_delivery=lambda error, message: placed.append(-1 if error else message.partition()),
    )
    assert await asyncio.to_thread(producer.flush, 20) == 0
    assert placed == [partition_of(member, 2)]

    async def applied() -> bool:
        return bool(await status(clinic, member, event) == "applied")

    await eventually(applied)
