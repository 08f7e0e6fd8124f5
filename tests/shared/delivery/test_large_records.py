"""A partition whose records are large and wait does not fill the process's memory: what waits is bounded by bytes."""

from functools import partial
from uuid import uuid4

import asyncpg
import orjson
from aiokafka import TopicPartition

from shared.events.codec import encode
from shared.lanes import CHUNK_BYTES
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, member_key
from tests.shared.delivery.conftest import effects_are, partition_of
from tests.shared.delivery.probe import ACTIVITY, pain

LARGE, MANY = 60_000, 120
FETCH = 1 << 20
"""What the client fetches of a partition at once, at most."""


async def test_large_records_that_wait_are_bounded_by_their_bytes_and_lose_nothing(
    probe: RunningService, publish: Publish, namespace: str, probe_url: str
) -> None:
    """Given a database that holds up a partition, when far more bytes come than may wait, then the partition is paused
    although few records wait; and when the database goes on, all take effect in order."""
    member = uuid4()
    intake = probe.service.intakes[0]
    place = TopicPartition(topic_name(namespace, ACTIVITY), partition_of(member))
    connection = await asyncpg.connect(probe_url)
    holding = connection.transaction()
    await holding.start()
    await connection.execute("lock table effects in access exclusive mode")
    for number in range(MANY):
        event = orjson.loads(encode(pain(member, number % 5)))
        await publish.raw(ACTIVITY, orjson.dumps({**event, "padding": "x" * LARGE}), key=member_key(member))
    await eventually(lambda: place in intake.consumer.paused(), what="the partition is paused")
    lane = intake.lanes[place]
    assert lane.waiting < MANY
    assert lane.bytes <= 3 * CHUNK_BYTES + FETCH
    await holding.rollback()
    await connection.close()
    await eventually(partial(effects_are, probe, member, [number % 5 for number in range(MANY)]), within=30)
    assert not intake.consumer.paused()
