"""The servers and services of a run: an embedded stack of its own, processes that can be hurt."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from deploy.local.databases import create_databases, database_name, service_database_url
from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from deploy.local.ports import choose_port
from deploy.local.processes import ProcessFile, kill_session
from deploy.local.servers import EmbeddedServers, ServerChoices, Servers
from shared.clock import Anchor, AnchoredClock, write_anchor
from shared.database import Connection, Database, open_database
from shared.topics import create_topics
from tests.chaos.faults import SERVICES, Service
from tests.chaos.patience import ANSWERS_S, connected, patient
from tests.chaos.victim import KEYS
from tests.fixtures.databases import place_of, with_port
from tests.fixtures.eventually import eventually
from tests.fixtures.lines import Line, line_to
from tests.fixtures.processes import ServiceProcess
from tests.fixtures.tokens import Tokens

PARTITIONS = 3
SESSION_TIMEOUT_S = 6
CHUNK_RECORDS = 40
MODULE = "tests.chaos.victim"
MAILBOXES = '{"oncall": "oncall@example.org", "pt": "pt@example.org", "coach": "coach@example.org"}'
READY_S = SETTLED_S = MIGRATED_S = 240.0
"""Far beyond what it takes: a busy machine is no finding."""
MUTANT_SETTLED_S = 90.0
"""Where the protocol is undone: several times what the whole one takes."""
NOT_MOVING = "select coalesce(max(stalled_starts), 0) from delivery.positions"
STALLED_MAX = 1
"""No process is hurt again while one of its partitions has begun more often without progress: an innocent record that
is in hand each time would be condemned, which docs/protocol.md says of it."""


@dataclass
class Stage:
    """Servers that several runs share, one after the other."""

    servers: EmbeddedServers
    urls: Servers
    folder: Path
    runs: int = 0

    async def kill(self, name: str) -> None:
        """SIGKILL to a server and all its children, as if its machine lost power."""
        child = self.servers.children[name]
        # PostgreSQL's lead sessions of their own, and would answer for a moment longer.
        children = psutil.Process(child.process.pid).children(recursive=True)
        kill_session(child.process.pid)
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(child.process.wait)

    async def restart(self, name: str) -> None:
        await self.servers.launchers[name]()


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[Stage]:
    """The three servers, for as long as the block runs."""
    data = folder / "servers"
    data.mkdir(parents=True)
    servers = EmbeddedServers(
        data=data,
        choices=ServerChoices(kafka_heap_mb=320, postgres_connections_max=200),
        record=ProcessFile(path=data / "processes.json"),
        report=lambda line: None,
    )
    urls = await servers.start()
    try:
        yield Stage(servers, urls, folder)
    finally:
        await asyncio.shield(servers.stop())


@dataclass
class Crew:
    """The processes of one service. `release`: migrations beyond ours."""

    service: Service
    database_url: str
    line: Line | None = None
    """On which its processes reach their database."""
    processes: list[ServiceProcess] = field(default_factory=list)
    started: int = 0
    release: int = 0
    hurting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One fault of a kind that needs its processes at a time."""
    commanded: asyncio.Lock = field(default_factory=asyncio.Lock)
    """What is asked for over HTTP is in no log: not while the database may be set back to before it."""

    @property
    def reached_at(self) -> str:
        """Where its processes find their database."""
        return self.database_url if self.line is None else with_port(self.database_url, self.line.port)


@dataclass
class World:
    stage: Stage
    namespace: str
    folder: Path
    opening: datetime
    crews: dict[Service, Crew]
    mail: MailSink
    mutant: str | None = None
    restored: set[Service] = field(default_factory=set)
    """Services whose database was set back: what they decide again has another time."""
    tokens: Tokens = field(default_factory=Tokens)
    """Of the one issuer that the services believe."""
    patience_s: float = SETTLED_S

    @property
    def clock_file(self) -> Path:
        return self.folder / "clock.json"

    @property
    def clock(self) -> AnchoredClock:
        """Clinic time as the services have it."""
        return AnchoredClock(self.clock_file)

    @property
    def databases(self) -> dict[str, str]:
        return {name: crew.database_url for name, crew in self.crews.items()}

    def move_clock(self, by: timedelta) -> None:
        """Set clinic time, for all processes."""
        self._anchor(by, speed=1)

    def stop_clock(self) -> None:
        """Nothing becomes due any more: whoever judges may take as long as it takes."""
        self._anchor(timedelta(0), speed=0)

    def _anchor(self, by: timedelta, *, speed: float) -> None:
        wall = datetime.now(UTC)
        write_anchor(self.clock_file, Anchor(clinic_at=self.clock.now() + by, wall_at=wall, speed=speed))

    def order(self, process: ServiceProcess, how: str, point: str, nth: int = 1) -> None:
        """Tell a process to be hurt when it comes to a point."""
        file = self.folder / f"{process.env['CHAOS_NAME']}.order"
        draft = file.with_suffix(".draft")
        draft.write_text(f"{how} {point} {nth}")
        draft.replace(file)

    def withdraw(self, process: ServiceProcess) -> None:
        (self.folder / f"{process.env['CHAOS_NAME']}.order").unlink(missing_ok=True)

    def new_process(self, service: Service, *arguments: str) -> ServiceProcess:
        """One more process of a service, not started."""
        crew, port = self.crews[service], choose_port()
        crew.started += 1
        name = f"{service}-{crew.started}"
        urls = self.stage.urls
        settings: dict[str, Any] = {
            "database_url": crew.reached_at, "kafka_bootstrap": urls.kafka_bootstrap, "valkey_url": urls.valkey_url,
            "namespace": self.namespace, "port": port, "session_timeout_s": SESSION_TIMEOUT_S,
            "clock_file": self.clock_file, "chunk_records": CHUNK_RECORDS, "smtp_port": self.mail.smtp_port,
            "smtp_timeout_s": 2, "sms_timeout_s": 2, "send_answer_within_s": 24, "page_mailboxes": MAILBOXES,
        }  # fmt: skip
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CARELOOP_", "CHAOS_"))}
        env |= {f"CARELOOP_{key.upper()}": str(value) for key, value in settings.items()}
        env |= {"CHAOS_FOLDER": str(self.folder), "CHAOS_NAME": name, "CHAOS_RELEASE": str(crew.release)}
        if self.mutant:
            env["CHAOS_MUTANT"] = self.mutant
        return ServiceProcess(MODULE, env, self.folder / f"{name}.log", port, (service, *arguments))

    async def start(self, service: Service) -> ServiceProcess:
        """Start one more process of a service; it need not be ready yet."""
        process = self.new_process(service)
        await process.start()
        self.crews[service].processes.append(process)
        return process

    async def migrate(self, service: Service, *, killed_at: int | None = None) -> int:
        """Bring a database up to date, or begin to; the exit code. `killed_at`: at the how many-th migration."""
        process = self.new_process(service, "--migrate")
        if killed_at is not None:
            self.order(process, "kill", "in-migration", killed_at)
        await process.start()
        assert process.process
        code = await asyncio.wait_for(process.process.wait(), MIGRATED_S)
        self.withdraw(process)
        return code

    async def ready(self, process: ServiceProcess) -> None:
        """Until it is ready. AssertionError at once if it has ended by itself."""

        async def is_ready() -> bool:
            assert process.process
            if process.process.returncode not in (None, -signal.SIGKILL, -signal.SIGTERM, 0):
                raise EndedByItself(f"{process.arguments[0]} ended with {process.process.returncode}: {process.log}")
            answer = await process.get("/health/ready")
            assert answer.get("ready"), answer
            return True

        await eventually(is_ready, within=READY_S, what=f"{process.arguments[0]} is ready; log {process.log}")

    @asynccontextmanager
    async def connect(self, service: Service) -> AsyncIterator[Connection]:
        """A connection as the service itself has them."""
        opened: list[Database] = []

        async def opens() -> bool:
            url = self.crews[service].database_url
            opened.append(await open_database(url, connections=2, application="chaos"))
            return True

        await eventually(patient(opens), within=ANSWERS_S, what=f"the database of {service} lets the run in")
        try:
            async with opened[0].acquire() as connection:
                yield connection
        finally:
            await opened[0].close()

    async def has_moved(self, service: Service) -> None:
        """Until each partition has made progress since its last starts."""

        async def moves() -> bool:
            async with connected(self.crews[service].database_url) as connection:
                stalled = await connection.fetchval(NOT_MOVING)
            return bool(stalled <= STALLED_MAX)

        await eventually(patient(moves), within=READY_S, what=f"{service} makes progress")

    async def settled(self) -> None:
        """All services at rest, one after the other, twice: what one does may make work for another."""
        for _ in range(2):
            for crew in self.crews.values():
                for process in crew.processes:
                    await process.settled(within=self.patience_s)

    async def close(self) -> None:
        for crew in self.crews.values():
            for process in crew.processes:
                await process.end()


class EndedByItself(Exception):
    """A process that nobody hurt is gone."""


@asynccontextmanager
async def open_world(
    stage: Stage, opening: datetime, *, mutant: str | None = None, far_away: Collection[Service] = ()
) -> AsyncIterator[World]:
    """Topics, databases that are not migrated yet, a mailbox; no process runs yet. `far_away`: services with a line to
    their database that can be lost."""
    stage.runs += 1
    namespace = f"chaos{stage.runs}"
    folder = stage.folder / namespace
    folder.mkdir()
    names = {service: database_name(service, namespace=namespace) for service in SERVICES}
    await create_databases(stage.urls.postgres_url, dict.fromkeys(names.values(), "simulated"))
    await create_topics(stage.urls.kafka_bootstrap, namespace=namespace, partitions=PARTITIONS)
    async with AsyncExitStack() as opened:
        mailbox = MailSinkSettings(data=folder / "mail", port=0, smtp_port=0, keep=1_000_000)
        mail = await opened.enter_async_context(MailSink(mailbox))
        crews = {
            service: Crew(service, service_database_url(stage.urls.postgres_url, name=name, password="simulated"))
            for service, name in names.items()
        }
        for service in far_away:
            crews[service].line = await opened.enter_async_context(line_to(*place_of(stage.urls.postgres_url)))
        world = World(stage, namespace, folder, opening, crews, mail, mutant)
        (folder / KEYS).write_text(json.dumps(world.tokens.jwks))
        if mutant:
            world.patience_s = MUTANT_SETTLED_S
        write_anchor(world.clock_file, Anchor(clinic_at=opening, wall_at=datetime.now(UTC), speed=1))
        opened.push_async_callback(world.close)
        yield world
