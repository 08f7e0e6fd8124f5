"""What a chunk costs the process that takes it, with the database left out: steady also on a busy machine.

The best of many runs over one chunk in memory. The connection answers at once that everything is new.
"""

import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from shared.clock import WallClock, wall_now
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import HEADERS, Decoder, body_digest
from shared.lanes import Lane, RawChunk
from shared.outbox import finish_events
from shared.outcomes import Outcomes
from shared.partitioning import key_of
from shared.replaying import Reader
from shared.subscriptions import Subscription
from shared.taking import ChunkTaker
from tests.bench.job import TOPIC, follow_sessions
from tests.bench.loop import take
from tests.bench.sessions import make_members, sessions
from tests.bench.stage import Stage

RECORDS = 500
RUNS = 150


async def contest(stage: Stage) -> dict[str, Any]:
    decoder = Decoder(TOPIC_OF[TOPIC])
    records = [
        ConsumerRecord(
            TOPIC, 0, offset, int(time.time() * 1000), 0, key_of(member).raw, value, None, 36, len(value), HEADERS
        )
        for offset, (member, value) in enumerate(sessions("light", make_members(), RECORDS))
    ]
    events = [decoder.decode(record.value, record.headers) for record in records]
    decided: Outcomes = _at_once(follow_sessions(_Answers(), events, now=wall_now()))  # type: ignore[arg-type]
    lane, raw = Lane(TopicPartition(TOPIC, 0), start=0, cautious=False), RawChunk(0, 0, RECORDS, records)
    taker = ChunkTaker(
        reader=Reader(Subscription(topic=TOPIC, group="bench.ours", run=follow_sessions), decoder),
        service="bench",
        database=_Pool(),  # type: ignore[arg-type]
        clock=WallClock(),
        settle_waiting=_nothing_waits,
        committed=lambda *_: None,
    )
    costs = {
        "ours": lambda: _at_once(taker.take(lane, raw, counted=False, partitions=1)),
        "batch_loop": lambda: _at_once(take(_Answers(), records, decoder, follow_sessions, "lock", wall_now())),  # type: ignore[arg-type]
        "of_it_decode": lambda: [decoder.decode(record.value, record.headers) for record in records],
        "of_it_digest": lambda: [body_digest(event) for event in events],
        "of_it_finish": lambda: finish_events(decided.published, service="bench", scope="bench.ours", now=wall_now()),
    }
    gc.collect()
    gc.freeze()
    best = {name: round(_best(cost), 1) for name, cost in costs.items()}
    return {
        "name": "chunk",
        "unit": "us/record",
        "ours": best.pop("ours"),
        "beside": best,
        "limited_by": "one Python thread; the driver, the broker client and the servers come on top",
    }


def _best(cost: Callable[[], Any]) -> float:
    """Microseconds of processor time for a record."""
    least = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        cost()
        least = min(least, time.process_time() - began)
    return least / RECORDS * 1e6


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waited for something")


class _Answers:
    """A connection to a database in which nothing is."""

    async def execute(self, statement: str, *values: Any) -> str:
        return ""

    async def fetchrow(self, statement: str, *values: Any) -> dict[str, Any]:
        return {"taken": len(values[0]) // 32, "known": [], "blocked": [], "awaited": False}

    async def fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if "with held" in statement:  # the positions, as they are locked
            return [(partition, 0, values[3]) for partition in values[2]]
        if "delivery.inbox" in statement:
            return [(values[0][start : start + 16],) for start in range(0, len(values[0]), 32)]
        return []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield


class _Pool:
    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[_Answers]:
        yield _Answers()


async def _nothing_waits(connection: Any, member_ids: Any, now: datetime, *, with_care: bool = False) -> int:
    return 0
