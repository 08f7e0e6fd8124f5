"""The stage: embedded servers, filled topics, a fresh database a run, and what each process costs."""

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import psutil

from deploy.local.servers import ServerChoices, Servers, embedded_servers
from services.plans.handlers.follow_members import follow_members
from shared.database import Database, open_database
from shared.events.members import MemberEnrolled, MemberEnrolledData, PainIntake
from shared.member_locks import lock_members
from shared.migrating import migrate
from tests.bench.job import TABLES
from tests.bench.sessions import Kind, Log, fill, make_members
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.databases import with_database
from tests.fixtures.eventually import eventually

DATA = Path("build/bench-servers")
READY_S = 60.0
WAL_FILES = 48
"""Of 16 MB: more than a contestant writes between two checkpoints."""


@dataclass
class Stage:
    servers: Servers
    records: int
    rounds: int
    _logs: dict[Kind, Log] = field(default_factory=dict)
    _databases: set[str] = field(default_factory=set)

    @property
    def more_rounds(self) -> int:
        """Of rows near their marks: a machine that is shared is slower by half for seconds at a time, and of three
        rounds one such stretch decides the median."""
        return 2 * self.rounds + 1

    async def log(self, kind: Kind) -> Log:
        """The topic with sessions of this kind, filled when it is first asked for."""
        if kind not in self._logs:
            log = self._logs[kind] = Log(new_namespace(), make_members(), self.records)
            await fill(self.servers.kafka_bootstrap, log, kind)
        return self._logs[kind]

    def environment(self, namespace: str, database_url: str, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CARELOOP_")}
        return kept | {
            "CARELOOP_DATABASE_URL": database_url,
            "CARELOOP_KAFKA_BOOTSTRAP": self.servers.kafka_bootstrap,
            "CARELOOP_VALKEY_URL": self.servers.valkey_url,
            "CARELOOP_NAMESPACE": namespace,
            "CARELOOP_PORT": "0",
            "CARELOOP_LOG_LEVEL": "ERROR",
            "BENCH_RUN": secrets.token_hex(4),
            **more,
        }

    async def database(self, service: str = "bench") -> str:
        """A migrated database of a service; that of `bench` has the light job's table."""
        name = f"bench_{secrets.token_hex(4)}"
        admin = await asyncpg.connect(self.servers.postgres_url)
        await admin.execute(f"create database {name}")
        await admin.close()
        url = with_database(self.servers.postgres_url, database=name)
        await migrate(url, service=service)
        self._databases.add(url)
        if service == "bench":
            connection = await asyncpg.connect(url)
            await connection.execute(TABLES)
            await connection.close()
        return url

    async def drop(self, url: str) -> None:
        """Forget a database, whoever uses it."""
        self._databases.discard(url)
        admin = await asyncpg.connect(self.servers.postgres_url)
        await admin.execute(f"drop database {urlsplit(url).path[1:]} with (force)")
        await admin.close()

    async def use_for_a_while(self) -> None:
        """The write-ahead log of a server that has run for some time goes to files that it has used before. A new one
        makes each, fills it with zeros and flushes it while whoever commits waits."""
        admin = await asyncpg.connect(self.servers.postgres_url)
        await admin.execute(f"alter system set min_wal_size = '{WAL_FILES * 16}MB'")  # so many are kept
        await admin.execute("select pg_reload_conf()")
        for _ in range(WAL_FILES):
            await admin.execute("select pg_logical_emit_message(false, 'bench', ''); select pg_switch_wal()")
        for _ in range(2):  # the files before the last one may be used again
            await admin.execute("checkpoint")
        await admin.close()

    async def rest(self) -> None:
        """Until what earlier rows wrote lies on the disk: a commit that is timed would wait behind it. The rows that
        there are have been counted by then, as a database does for itself once a minute."""
        for url in self._databases:
            connection = await asyncpg.connect(url)
            await connection.execute("vacuum analyze")
            await connection.close()
        admin = await asyncpg.connect(self.servers.postgres_url)
        await admin.execute("checkpoint")
        await admin.close()
        await self.write_back()

    async def write_back(self) -> None:
        """What was written so far is written to the disk, which the kernel does when it likes."""
        await asyncio.to_thread(os.sync)

    def processor_s(self) -> float:
        """Processor seconds that PostgreSQL and Kafka have used so far."""
        return sum(_processor_s(process) for process in psutil.process_iter() if _is_ours(process))

    def server_pids(self) -> list[int]:
        """Of PostgreSQL, its backends with it, and Kafka, as they are now."""
        ours = [process for process in psutil.process_iter() if _is_ours(process)]
        return [one.pid for process in ours for one in (process, *_children(process))]


@asynccontextmanager
async def open_stage(*, records: int, rounds: int) -> AsyncIterator[Stage]:
    """Servers of their own under build/, new ones each time: what earlier runs left would be vacuumed beside what is
    timed."""
    is_ours = False
    try:
        # As a clinic's broker, which has both of Java's compilers and runs for months.
        async with embedded_servers(data=DATA, choices=ServerChoices(kafka_is_optimised=True)) as servers:
            is_ours = True
            stage = Stage(servers, records, rounds)
            await stage.use_for_a_while()
            yield stage
    finally:
        if is_ours:  # and no other run's
            shutil.rmtree(DATA, ignore_errors=True)


@asynccontextmanager
async def program(
    module: str, environment: Mapping[str, str], *arguments: str, folder: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python module, of the checkout in `folder` if given, as a process of its own, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, cwd=folder
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def is_ready(port: int) -> None:
    """Wait until the service on this port says that it is ready."""

    async def ready() -> bool:
        try:
            answer = await client.get("/health/ready")
        except httpx.HTTPError as error:
            raise AssertionError(type(error).__name__) from None
        assert answer.status_code == 200, answer.text
        return True

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=READY_S) as client:
        await eventually(ready, within=READY_S, what="a service is ready")


async def enroll(url: str, members: list[UUID]) -> None:
    """Every member has a plan, as after their intake."""
    database: Database = await open_database(url, connections=2, application="bench stage")
    now = datetime.now(UTC) - timedelta(days=21)
    for start in range(0, len(members), 500):
        events = [_enrolled(member, now) for member in members[start : start + 500]]
        async with database.acquire() as connection, connection.transaction():
            await lock_members(connection, [event.subject for event in events])
            await carry_out(follow_members, connection, events, now=now)
    await database.close()


def new_namespace() -> str:
    return f"bench{secrets.token_hex(3)}"


def _enrolled(member: UUID, now: datetime) -> MemberEnrolled:
    data = MemberEnrolledData(
        sponsor_id=uuid4(), intent="seeking-treatment", region="knee", cause="overuse", signs=("pain-daily",),
        pain=PainIntake(now=3, average_24h=3, usual=3), goals=("walk",), days_per_week=3, preferred_time="18:00",
        time_zone="America/New_York", state="NY", language="en", disposition="none", consented_channels=("email",),
    )  # fmt: skip
    return MemberEnrolled(id=f"m{member}", source="urn:careloop:enrollment", time=now, subject=member, data=data)


def _is_ours(process: psutil.Process) -> bool:
    """One of the two servers; a process that PostgreSQL started is counted with it."""
    try:
        line, folder = process.cmdline(), process.cwd()
    except psutil.Error:
        return False
    is_server = bool(line) and line[0].endswith(("/postgres", "/java"))
    return is_server and any(str(DATA.absolute()) in part for part in [*line, folder])  # Kafka's line names no folder


def _processor_s(process: psutil.Process) -> float:
    """With its children, also those that have ended."""
    try:
        spent = sum(process.cpu_times()[:4])
        return spent + sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    except psutil.Error:
        return 0.0


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
