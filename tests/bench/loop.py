"""The hand-written contestant: one sequential loop, batches of 500, everything in one transaction a batch.

Tuned like ours: uvloop, frozen collector, prepared statements, the same decoder, the same statements for state and
outbox, no member locks of its own (the state row is locked when it is loaded), no readiness, no parking, no isolation
of bugs. What it keeps of the guarantees: the inbox and the position in the same transaction.
"""

import gc
import os
from datetime import datetime
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer

from services.plans.handlers.follow_activity import follow_activity
from shared.clock import WallClock
from shared.database import Connection, open_database
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder, body_digest
from shared.events.envelope import CloudEvent
from shared.inbox import inbox_identity
from shared.outbox import write_outcomes
from shared.outcomes import Outcomes
from shared.settings import ServiceSettings
from shared.topics import topic_name
from tests.bench.job import TOPIC, follow_sessions

GROUP = "bench.loop"
TAKE = """
insert into delivery.inbox (identity, digest)
select substr($1, start, 16), substr($1, start + 16, 16)
from generate_series(1, octet_length($1::bytea), 32) as start
on conflict (identity) do nothing returning identity
"""
ADVANCE = """
update delivery.positions set next_offset = p.next_offset, records_read = records_read + p.count
from unnest($3::int[], $4::bigint[], $5::int[]) as p(number, next_offset, count)
where consumer_group = $1 and topic = $2 and partition = p.number
"""
ENSURE = """
insert into delivery.positions (consumer_group, topic, partition, next_offset, first_offset)
select $1, $2, p, 0, 0 from unnest($3::int[]) as p on conflict do nothing
"""
LOCK = "select member_id from {table} where member_id = any($1::uuid[]) order by member_id for update"
JOBS: dict[str, tuple[Any, str]] = {
    "consume": (follow_sessions, "member_states"),
    "consume_rules": (follow_activity, "care_plans"),
}


async def take(
    connection: Connection, records: list[Any], decoder: Decoder, run: Any, lock: str, now: datetime
) -> None:
    by_identity: dict[bytes, CloudEvent] = {}
    for record in records:
        event = decoder.decode(record.value, record.headers)
        by_identity.setdefault(inbox_identity(GROUP, event.source, event.id), event)
    async with connection.transaction():
        arrived = b"".join([identity + body_digest(event) for identity, event in by_identity.items()])
        rows = await connection.fetch(TAKE, arrived)
        fresh = {row[0] for row in rows}
        events = [event for identity, event in by_identity.items() if identity in fresh]
        await connection.fetch(lock, list({event.subject for event in events}))
        outcomes: Outcomes = await run(connection, events, now=now)
        await write_outcomes(connection, outcomes, service="bench", scope=GROUP, now=now)
        ends: dict[int, tuple[int, int]] = {}
        for record in records:
            ends[record.partition] = (record.offset + 1, ends.get(record.partition, (0, 0))[1] + 1)
        await connection.execute(
            ADVANCE, GROUP, TOPIC, list(ends), [end for end, _ in ends.values()], [n for _, n in ends.values()]
        )


async def main() -> None:
    settings = ServiceSettings()
    run, table = JOBS[os.environ["BENCH_JOB"]]
    database = await open_database(settings.database_url.get_secret_value(), connections=2, application="bench loop")
    group = f"{settings.namespace}.{GROUP}.{os.environ['BENCH_RUN']}"
    topic, decoder, clock = topic_name(settings.namespace, TOPIC), Decoder(TOPIC_OF[TOPIC]), WallClock()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=settings.kafka_bootstrap, group_id=group,
        auto_offset_reset="earliest", enable_auto_commit=False, max_poll_records=500, fetch_max_wait_ms=100,
    )  # fmt: skip
    await consumer.start()
    partitions = sorted(consumer.partitions_for_topic(topic))
    async with database.acquire() as connection:
        await connection.execute(ENSURE, GROUP, TOPIC, partitions)
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        while True:
            batch = await consumer.getmany(timeout_ms=500, max_records=500)
            records = [record for queue in batch.values() for record in queue]
            if records:
                await take(connection, records, decoder, run, LOCK.format(table=table), clock.now())
                await consumer.commit({p: queue[-1].offset + 1 for p, queue in batch.items() if queue})


if __name__ == "__main__":
    uvloop.run(main())
