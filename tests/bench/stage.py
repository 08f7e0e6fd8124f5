"""The stage: embedded servers, a topic filled once, a fresh database a run, and a stopwatch on the books."""

import asyncio
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.servers import Servers, embedded_servers
from services.plans.handlers.follow_members import follow_members
from shared.clock import monotonic
from shared.database import open_database
from shared.events import SessionCompleted
from shared.events.activity import ExerciseResult, SessionCompletedData
from shared.events.codec import HEADERS, encode
from shared.events.members import MemberEnrolled, MemberEnrolledData, PainIntake
from shared.member_locks import lock_members
from shared.migrating import migrate
from shared.topics import topic_name
from tests.bench.job import TABLES, TOPIC
from tests.fixtures.databases import with_database

PARTITIONS = 6
MEMBERS = 5_000
IDLE_LIMIT_S = 120.0
EXERCISES = ("quad-stretch", "knee-extension")


@dataclass(frozen=True)
class Measured:
    """One run of one contestant."""

    records_per_s: float
    worker_us: float
    """CPU microseconds of the contestant's process per record."""
    memory_mb: float


@dataclass
class Stage:
    servers: Servers
    namespace: str
    members: list[UUID]
    records: int

    def environment(self, database_url: str, job: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CARELOOP_")}
        return kept | {
            "CARELOOP_DATABASE_URL": database_url,
            "CARELOOP_KAFKA_BOOTSTRAP": self.servers.kafka_bootstrap,
            "CARELOOP_VALKEY_URL": self.servers.valkey_url,
            "CARELOOP_NAMESPACE": self.namespace,
            "CARELOOP_PORT": "0",
            "CARELOOP_LOG_LEVEL": "ERROR",
            "BENCH_JOB": job,
            "BENCH_RUN": secrets.token_hex(4),
            "BENCH_SERVICE": "plans" if job == "consume_rules" else "bench",
        }


@asynccontextmanager
async def open_stage(*, records: int, hot: bool = False) -> AsyncIterator[Stage]:
    """Servers of their own under build/, and a topic with `records` sessions; `hot`: a tenth of them one member's."""
    async with embedded_servers(data=Path("build/bench-servers")) as servers:
        chance = random.Random(7)
        members = [UUID(int=chance.getrandbits(128), version=4) for _ in range(MEMBERS)]
        stage = Stage(servers, f"bench{secrets.token_hex(3)}", members, records)
        await _fill(stage, chance, hot)
        yield stage


async def _fill(stage: Stage, chance: random.Random, hot: bool) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.servers.kafka_bootstrap)
    await admin.start()
    topic = topic_name(stage.namespace, TOPIC)
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=stage.servers.kafka_bootstrap, max_batch_size=512 * 1024, linger_ms=5)
    await producer.start()
    start = datetime.now(UTC) - timedelta(days=20)
    for number in range(stage.records):
        member = stage.members[0] if hot and number % 10 == 0 else chance.choice(stage.members)
        event = make_session(member, number, start + timedelta(seconds=number))
        await producer.send(topic, value=encode(event), key=str(member).encode(), headers=list(HEADERS))
    await producer.stop()


def make_session(member: UUID, number: int, at: datetime) -> SessionCompleted:
    results = tuple(
        ExerciseResult(exercise=exercise, step=1, sets_prescribed=3, sets_done=3, last_set_reps=10, rpe=5)  # type: ignore[arg-type]
        for exercise in EXERCISES
    )
    data = SessionCompletedData(
        session_id=UUID(int=number), started_at=at, duration_min=20, exercises=results, pain_during=number % 5
    )
    return SessionCompleted(id=f"b{number}", source="urn:bench:app", time=at, subject=member, data=data)


async def fresh_database(stage: Stage, job: str) -> str:
    """A migrated database; for the real job every member has a plan."""
    name = f"{stage.namespace}_{secrets.token_hex(3)}"
    admin = await asyncpg.connect(stage.servers.postgres_url)
    await admin.execute(f"create database {name}")
    await admin.close()
    url = with_database(stage.servers.postgres_url, database=name)
    await migrate(url, service="plans" if job == "consume_rules" else "bench")
    database = await open_database(url, connections=2, application="bench stage")
    try:
        if job == "consume_rules":
            await _enroll(database, stage.members)
        else:
            await database.execute(TABLES)
    finally:
        await database.close()
    return url


async def _enroll(database: "asyncpg.Pool[asyncpg.Record]", members: list[UUID]) -> None:
    now = datetime.now(UTC) - timedelta(days=21)
    for start in range(0, len(members), 500):
        events = [_enrolled(member, now) for member in members[start : start + 500]]
        async with database.acquire() as connection, connection.transaction():
            await lock_members(connection, [event.subject for event in events])
            await follow_members(connection, events, now=now)


def _enrolled(member: UUID, now: datetime) -> MemberEnrolled:
    data = MemberEnrolledData(
        sponsor_id=uuid4(), intent="seeking-treatment", region="knee", cause="overuse", signs=("pain-daily",),
        pain=PainIntake(now=3, average_24h=3, usual=3), goals=("walk",), days_per_week=3, preferred_time="18:00",
        time_zone="America/New_York", state="NY", language="en", disposition="none", consented_channels=("email",),
    )  # fmt: skip
    return MemberEnrolled(id=f"m{member}", source="urn:careloop:enrollment", time=now, subject=member, data=data)


async def measure(stage: Stage, module: str, job: str, *, records: int) -> Measured:
    """Run a contestant until it has committed `records` records; the rate between its first and last commit."""
    url = await fresh_database(stage, job)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=stage.environment(url, job))
    watch = await asyncpg.connect(url)
    try:
        began = monotonic()
        first_at, first, cpu_at_first = 0.0, 0, 0.0
        seen = psutil.Process(process.pid)
        while True:
            read: int = await watch.fetchval("select coalesce(sum(records_read), 0)::int from delivery.positions")
            if process.returncode is not None:
                raise RuntimeError(f"{module} ended with {process.returncode}")
            if read and not first:
                first_at, first, cpu_at_first = monotonic(), read, sum(seen.cpu_times()[:2])
            if read >= records:
                break
            if monotonic() - began > IDLE_LIMIT_S:
                raise RuntimeError(f"{module} took {read} of {records} records in {IDLE_LIMIT_S:.0f} s")
            await asyncio.sleep(0.01)
        seconds, cpu = monotonic() - first_at, sum(seen.cpu_times()[:2]) - cpu_at_first
        taken = read - first
        return Measured(taken / seconds, cpu / taken * 1e6, seen.memory_info().rss / 1e6)
    finally:
        await watch.close()
        process.kill()
        await process.wait()
