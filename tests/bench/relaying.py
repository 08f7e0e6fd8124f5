"""From the outbox to acknowledged: our relay beside a bare producer loop over the same bytes, a process each.

python -m tests.bench.relaying ours|bare     one contestant; what it measured, as a line of JSON
"""

import asyncio
import gc
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import psutil
import uvloop
from aiokafka import AIOKafkaProducer

from shared.clock import monotonic
from shared.database import open_database
from shared.events.codec import HEADERS
from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of
from shared.relay import Relay
from shared.settings import ServiceSettings
from shared.telemetry import RELAYED
from shared.topics import topic_name
from shared.writing import write
from tests.bench.job import TOPIC
from tests.bench.profiles import describe_profile
from tests.bench.sessions import make_members, make_topic, sessions
from tests.bench.stage import Stage, new_namespace, program

FILL = 5_000


async def contest(stage: Stage) -> dict[str, Any]:
    results: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for _ in range(stage.rounds):
        for name, measured in results.items():
            namespace, url = new_namespace(), await stage.database()
            await make_topic(stage.servers.kafka_bootstrap, namespace)
            environment = stage.environment(namespace, url, BENCH_RECORDS=str(stage.records))
            servers = stage.processor_s()
            async with program("tests.bench.relaying", environment, name) as process:
                said, _ = await process.communicate()
            measured.append({**json.loads(said), "servers_s": stage.processor_s() - servers})
    profile = Path("build/bench-relay.txt")
    namespace, url = new_namespace(), await stage.database()
    await make_topic(stage.servers.kafka_bootstrap, namespace)
    environment = stage.environment(namespace, url, BENCH_RECORDS=str(stage.records))
    async with program("tests.bench.relaying", environment, "ours") as process:
        with describe_profile(process.pid, profile):
            await process.communicate()
    pairs = zip(results["ours"], results["bare"], strict=True)
    rates = {name: statistics.median(one["per_s"] for one in measured) for name, measured in results.items()}
    cpu_us = {name: statistics.median(one["cpu_us"] for one in measured) for name, measured in results.items()}
    return {
        "name": "relay",
        "unit": "events/s",
        "ours": round(rates["ours"]),
        "beside": {"bare_producer": round(rates["bare"])},
        "ratio": round(statistics.median(ours["per_s"] / bare["per_s"] for ours, bare in pairs), 2),
        "mark": 1.0,
        "ours_cpu_us": round(cpu_us["ours"], 1),
        "bare_cpu_us": round(cpu_us["bare"], 1),
        "limited_by": f"one Python thread, busy {rates['ours'] * cpu_us['ours'] / 1e6:.0%}",
        "profile": str(profile),
    }


async def ours(settings: ServiceSettings, rows: list[OutboxRow]) -> float:
    """Seconds from the first look at a full outbox until everything is acknowledged; rows are deleted meanwhile."""
    database = await open_database(
        settings.database_url.get_secret_value(), connections=settings.database_connections, application="bench relay"
    )
    for start in range(0, len(rows), FILL):
        await write(database, [inserting_rows(rows[start : start + FILL])])
    await database.execute("vacuum analyze delivery.outbox")
    relay = Relay(settings, database, database)
    began = monotonic()
    running = asyncio.create_task(relay.run())
    while RELAYED.labels(TOPIC)._value.get() < len(rows):
        if running.done():
            running.result()
        await asyncio.sleep(0.002)
    seconds = monotonic() - began
    running.cancel()
    await asyncio.wait([running])
    await database.close()
    return seconds


async def bare(settings: ServiceSettings, rows: list[OutboxRow]) -> float:
    """The same from memory, with no outbox and nothing to delete."""
    topic = topic_name(settings.namespace, TOPIC)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap, acks="all", max_batch_size=512 * 1024, linger_ms=2
    )
    began = monotonic()
    await producer.start()
    sent = [
        await producer.send(topic, value=row.value, key=key_of(row.member_id).raw, headers=list(HEADERS))
        for row in rows
    ]
    await asyncio.gather(*sent)
    seconds = monotonic() - began
    await producer.stop()
    return seconds


async def main(name: str) -> None:
    settings, count = ServiceSettings(), int(os.environ["BENCH_RECORDS"])
    rows = [
        OutboxRow(TOPIC, member, value, key_of(member).hash)
        for member, value in sessions("light", make_members(), count)
    ]
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    me = psutil.Process()
    spent = sum(me.cpu_times()[:2])
    seconds = await (ours if name == "ours" else bare)(settings, rows)
    cpu = sum(me.cpu_times()[:2]) - spent
    print(json.dumps({"per_s": count / seconds, "cpu_us": cpu / count * 1e6}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
