"""The light job as Kafka Streams does it, exactly once v2: another process beside ours, where a JDK is found.

`PEERS=1 make bench JOBS=consume`. One stream thread, as ours has one; its jars are fetched once and pinned.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local.jars import KAFKA_VERSION, fetched_jars
from shared.clock import monotonic
from shared.topics import topic_name
from tests.bench.job import TOPIC
from tests.bench.sessions import Log, make_topic
from tests.bench.stage import Stage

IS_WANTED = os.environ.get("PEERS") == "1"
COORDINATES = f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36@StreamsPeer"
HERE = Path(__file__).parent / "peers"
LIMIT_S = 240.0


def find_jdk() -> Path:
    """A Java that can run a source file. RuntimeError where the machine has none."""
    compiler = shutil.which("javac")
    if compiler is None:
        raise RuntimeError("PEERS=1 needs a JDK 17 or newer (javac on the PATH)")
    return Path(compiler).resolve().with_name("java")


@asynccontextmanager
async def running(stage: Stage, log: Log, group: str) -> AsyncIterator[psutil.Process]:
    """The peer as a process, with stores and an output topic of its own."""
    jars = fetched_jars(f"kafka-streams-{KAFKA_VERSION}", COORDINATES, HERE / "streams-jars.sha256")
    java, boot = find_jdk(), stage.servers.kafka_bootstrap
    told = await make_topic(boot, log.namespace, f"told-{secrets.token_hex(4)}")
    with TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            java, "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{jars}/*",
            HERE / "StreamsPeer.java", boot, topic_name(log.namespace, TOPIC), told, group, folder,
        )  # fmt: skip
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()
            await process.wait()


async def measure_streams(stage: Stage, log: Log) -> tuple[float, float]:
    """Records a second and microseconds of processor time for each, over the second half of the topic: a JVM compiles
    itself during the first."""
    group = f"{log.namespace}.streams.{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.servers.kafka_bootstrap)
    await admin.start()
    try:
        async with running(stage, log, group) as process:
            began, first, at, spent = monotonic(), 0, 0.0, 0.0
            while True:
                read = await _committed(admin, group)
                if read >= log.records // 2 and not first:
                    first, at, spent = read, monotonic(), sum(process.cpu_times()[:2])
                if read >= log.records:
                    seconds, taken = monotonic() - at, read - first
                    return taken / seconds, (sum(process.cpu_times()[:2]) - spent) / taken * 1e6
                if monotonic() - began > LIMIT_S or not process.is_running():
                    raise RuntimeError(f"Kafka Streams took {read} of {log.records} records")
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def _committed(admin: AIOKafkaAdminClient, group: str) -> int:
    """Records up to the offsets that the group has committed: in its transactions, with what it wrote."""
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except KafkaError:
        return 0
    return sum(max(0, found.offset) for found in offsets.values())
