"""Given an outbox of large rows, when the relay hands them over, then a round reads as many bytes as it may: the end of
an outage of Kafka does not fill the memory of who relays."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from pydantic import SecretStr

from shared.relay import READ_BYTES, READ_MAX, Outflow
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.books import Books
from tests.shared.delivery.probe import ACTIVITY
from tests.shared.delivery.relaying import empty, events_of, ids_of, numbers, put, relaying

LARGE, ROUNDS = 60_000, 60


async def test_a_round_reads_as_many_bytes_as_it_may_and_the_next_follows(
    books: Books,
    servers: RunningServers,
    namespace: str,
    topics: TopicFactory,
    consume: Consume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await topics(ACTIVITY, partitions=3)
    members, read = [uuid4() for _ in range(12)], list[list[int]]()
    events = [(m, orjson.dumps({**orjson.loads(e), "padding": "x" * LARGE})) for m, e in events_of(members, ROUNDS)]
    assert sum(len(value) for _, value in events) > 2 * READ_BYTES
    assert len(events) < READ_MAX
    await put(books.pool, events)
    read_rows = Outflow._read

    async def note(outflow: Outflow, *away: Any) -> Any:
        rows = await read_rows(outflow, *away)
        read.append([len(row["value"]) for row in rows])
        return rows

    monkeypatch.setattr(Outflow, "_read", note)
    settings = ServiceSettings(
        database_url=SecretStr("unused"), kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, port=0
    )
    async with relaying(settings, books.pool):
        await eventually(lambda: empty(books.pool), within=30)
    assert all(sum(sizes) < READ_BYTES + 2 * LARGE for sizes in read)
    assert max(map(sum, read)) >= READ_BYTES
    told = await consume(ACTIVITY, count=len(events))
    for member in members:
        assert ids_of(told, member) == numbers(ROUNDS)
