"""Sessions as an app writes them, and topics that are filled with them once."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.events.codec import HEADERS
from shared.topics import topic_name
from tests.bench.job import TOPIC
from tests.fixtures.eventually import eventually

PARTITIONS = 6
MEMBERS = 5_000
EXERCISES = ("quad-stretch", "knee-extension")
Kind = Literal["light", "skewed", "rules"]


@dataclass(frozen=True)
class Log:
    """A filled topic, under a namespace of its own."""

    namespace: str
    members: list[UUID]
    records: int


def session(member: UUID, number: int, at: datetime, *, exercises: int, pain: int) -> bytes:
    """About 430 bytes with one exercise: what an app has to say, and nothing that has a default."""
    results = [
        {"exercise": name, "step": 1, "sets_prescribed": 3, "sets_done": 3, "last_set_reps": 10, "rpe": 5}
        for name in EXERCISES[:exercises]
    ]
    when = at.isoformat(timespec="seconds")
    data: dict[str, Any] = {
        "session_id": UUID(int=number), "started_at": when, "duration_min": 20, "exercises": results,
        "pain_during": pain,
    }  # fmt: skip
    return orjson.dumps({
        "specversion": "1.0", "id": f"b{number}", "source": "urn:bench:app",
        "type": "org.careloop.session.completed.v1", "time": when, "subject": member, "data": data,
    })  # fmt: skip


def sessions(kind: Kind, members: list[UUID], count: int) -> Iterator[tuple[UUID, bytes]]:
    """The last `count` seconds, a session each. `skewed`: a tenth of them one member's, a twentieth sent twice."""
    chance = random.Random(7)
    start = datetime.now(UTC) - timedelta(seconds=count)
    last: tuple[UUID, bytes] | None = None
    for number in range(count):
        if kind == "skewed" and number % 20 == 1 and last is not None:
            yield last
            continue
        member = members[0] if kind == "skewed" and number % 10 == 0 else chance.choice(members)
        exercises = 2 if kind == "rules" else 1
        value = session(member, number, start + timedelta(seconds=number), exercises=exercises, pain=number % 5)
        last = member, value
        yield last


def make_members() -> list[UUID]:
    chance = random.Random(11)
    return [UUID(int=chance.getrandbits(128), version=4) for _ in range(MEMBERS)]


async def make_topic(bootstrap: str, namespace: str, topic: str = TOPIC, *, partitions: int = PARTITIONS) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    name = topic_name(namespace, topic)
    await admin.create_topics([NewTopic(name, partitions, 1)])

    async def is_there() -> bool:
        (described,) = await admin.describe_topics([name])
        return described["error_code"] == 0 and len(described["partitions"]) == partitions

    # A broker that has just begun on the data of earlier runs answers before it has caught up with what is made.
    await eventually(is_there, within=30, what="the topic is there")
    await admin.close()
    return name


async def fill(bootstrap: str, log: Log, kind: Kind) -> None:
    topic = await make_topic(bootstrap, log.namespace)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=512 * 1024, linger_ms=5) as producer:
        for member, value in sessions(kind, log.members, log.records):
            await producer.send(topic, value=value, key=str(member).encode(), headers=list(HEADERS))
