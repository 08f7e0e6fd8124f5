"""`careloop up`: servers, databases, topics, issuer, mail sink, services, population; watch; stop in order."""

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError

from deploy.local import seeding
from deploy.local.databases import create_databases, database_cluster, database_name, service_database_url
from deploy.local.ports import HOST
from deploy.local.problems import LocalProblem
from deploy.local.processes import Child, ProcessFile, last_lines, start_child, start_mark
from deploy.local.programs import (
    ROOT,
    Program,
    ProgramPorts,
    choose_program_ports,
    inherited_environment,
    population_program,
    service_programs,
    standalone_programs,
)
from deploy.local.progress import Progress
from deploy.local.running_programs import LIVE_EVERY_S, Reviver, RunningPrograms
from deploy.local.servers import (
    EmbeddedServers,
    ServerChoices,
    Servers,
    load_secrets,
    lock_data,
    require_space,
    stop_orphans,
)
from deploy.local.settings import LocalSettings
from deploy.local.stack import SERVICES, KafkaAccess, Stack, StackService, load_stack, save_stack
from shared.migrating import MigrationError, migrate
from shared.topics import TopicDiffers, create_topics, kafka_cluster

FOLLOW_S = 0.1
STOP_LIMIT_S = 14.0


def kafka_access(settings: LocalSettings) -> KafkaAccess:
    """Of a Kafka that is given; one that we start ourselves is on this machine's loopback, in plaintext."""
    if settings.kafka_bootstrap is None:
        return KafkaAccess()
    return KafkaAccess(
        kafka_security=settings.kafka_security,
        kafka_username=settings.kafka_username,
        kafka_password=settings.kafka_password,
        kafka_ca_file=settings.kafka_ca_file.absolute() if settings.kafka_ca_file else None,
    )


def server_choices(settings: LocalSettings) -> ServerChoices:
    return ServerChoices(
        kafka_port=settings.kafka_port,
        postgres_port=settings.postgres_port,
        valkey_port=settings.valkey_port,
        kafka_bootstrap=settings.kafka_bootstrap,
        kafka_security=kafka_access(settings).options(),
        postgres_url=settings.postgres_url.get_secret_value() if settings.postgres_url else None,
        valkey_url=settings.valkey_url.get_secret_value() if settings.valkey_url else None,
    )


@dataclass(kw_only=True)
class Supervisor:
    """One run of a stack on one data directory. `seed`: whether a new stack gets its population."""

    settings: LocalSettings
    data: Path
    progress: Progress
    seed: bool = True
    on_running: Callable[[Stack], None] = lambda stack: None
    services: Callable[[Stack, ProgramPorts, LocalSettings], list[Program]] = service_programs
    population: Callable[[Path], Program] = population_program
    seed_command: Callable[[Path, LocalSettings], list[str]] = seeding.seed_command
    live_every_s: float = LIVE_EVERY_S
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _stack: Stack | None = None

    async def run(self) -> None:
        """From nothing to nothing: returns after an orderly stop. Raises LocalProblem if it cannot run."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        lock = lock_data(self.data)
        try:
            require_space(self.data)
            record = ProcessFile(path=self.data / "processes.json").load()
            await stop_orphans(self.data, record, report=self.progress.say)
            self._servers = EmbeddedServers(
                data=self.data, choices=server_choices(self.settings), record=record, report=self.progress.say
            )
            self._programs = RunningPrograms(data=self.data, record=record, report=self.progress.say)
            await self._run_until_stopped()
        finally:
            os.close(lock)

    async def _run_until_stopped(self) -> None:
        working = asyncio.create_task(self._work())
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, stopped):
                task.cancel()
            await asyncio.wait({working, stopped})
            with self.progress.step("stopping"):
                await self._stop()
            if self._stack is not None:
                save_stack(self._stack.model_copy(update={"state": "stopped"}))
        if not working.cancelled() and (problem := working.exception()) is not None:
            raise problem

    async def _work(self) -> None:
        ports = choose_program_ports(self.settings)
        last = self._last_stack(ports)
        with self.progress.step("starting Kafka, PostgreSQL and Valkey"):
            servers = await self._start_servers(last, ports)
        servers_id = await identify_servers(
            servers, access=kafka_access(self.settings), namespace=self.settings.namespace
        )
        stack = self._stack = self._describe(servers, servers_id, ports)
        save_stack(stack)
        seeding_due = self.seed and not seeding.is_seeded(stack.simulation)
        if last is not None and (seeding_due or addresses(last) != addresses(stack)):
            await self._programs.stop(SERVICES)
            last = None
        with self.progress.step("preparing databases and topics"):
            await prepare_servers(stack)
        if seeding_due:
            seeding.hold_clinic_time(stack.simulation, stack.clock_file, weeks=self.settings.population_weeks)
        with self.progress.step("starting the services"):
            if last is None:
                self._start_services(stack, ports)
            await gather_or_first_problem(
                [self._programs.wait_ready(program) for program in self._programs.programs.values()]
            )
        await gather_or_first_problem([self._watch(), self._populate(stack, due=seeding_due)])

    async def _start_servers(self, last: Stack | None, ports: ProgramPorts) -> Servers:
        """And what can start beside them, as soon as they have their share of the processor: a service waits for its
        servers anyway, and reading its modules meanwhile halves a later start."""
        servers: list[Servers] = []

        async def start_servers() -> None:
            servers.append(await self._servers.start())

        async def start_programs() -> None:
            await self._servers.launched.wait()
            for program in standalone_programs(ports, data=self.data):
                self._programs.start(program)
            if last is not None:
                self._start_services(last, ports)

        await gather_or_first_problem([start_servers(), start_programs()])
        return servers[0]

    def _start_services(self, stack: Stack, ports: ProgramPorts) -> None:
        for program in self.services(stack, ports, self.settings):
            self._programs.start(program)

    def _last_stack(self, ports: ProgramPorts) -> Stack | None:
        """The stack as it was last started here, if this start will most likely be the same: played in, same ports."""
        try:
            stack = load_stack(self.data)
        except LocalProblem:  # of another version: it is written anew
            return None
        if stack is None or (self.seed and not seeding.is_seeded(stack.simulation)):
            return None
        return stack if all(ports.url(name) == service.url for name, service in stack.services.items()) else None

    async def _populate(self, stack: Stack, *, due: bool) -> None:
        if due:
            save_stack(stack.model_copy(update={"state": "seeding"}))
            await self._seed(stack)
        self._programs.start(self.population(self.data))
        self._stack = stack.model_copy(update={"state": "running"})
        # Before it is written down: `up --detach` returns then, and is to have shown all that was said.
        self.on_running(self._stack)
        save_stack(self._stack)

    def _describe(self, servers: Servers, servers_id: str, ports: ProgramPorts) -> Stack:
        namespace = self.settings.namespace
        names = {service: database_name(service, namespace=namespace) for service in SERVICES}
        passwords = load_secrets(self.data, list(names.values()))
        return Stack(
            state="starting",
            supervisor_pid=os.getpid(),
            supervisor_mark=start_mark(os.getpid()) or "",
            data=self.data,
            namespace=namespace,
            kafka_bootstrap=servers.kafka_bootstrap,
            kafka_access=kafka_access(self.settings),
            postgres_url=servers.postgres_url,
            valkey_url=servers.valkey_url,
            embedded=servers.embedded,
            services={
                service: StackService(
                    url=ports.url(service),
                    database_url=service_database_url(servers.postgres_url, name=name, password=passwords[name]),
                )
                for service, name in names.items()
            },
            console_url=ports.url("messaging"),
            issuer_url=f"http://{HOST}:{ports.issuer}",
            issuer_data=self.data / "issuer",
            mail_url=f"http://{HOST}:{ports.mail}",
            smtp_port=ports.smtp,
            clock_file=self.data / "clock.json",
            simulation=seeding.simulation_directory(self.data, servers_id),
        )

    async def _seed(self, stack: Stack) -> None:
        log = self.data / "logs" / "seed.log"
        before = log.stat().st_size if log.exists() else 0
        child = start_child(
            self.seed_command(self.data, self.settings),
            name="seed",
            log=log,
            record_in=self._programs.record,
            cwd=ROOT,
            env=inherited_environment(),
        )
        try:
            with self.progress.step(f"playing {self.settings.population_weeks} weeks of a simulated population"):
                await self._follow(child, log, before)
        finally:
            await child.stop()
        if child.process.returncode != 0:
            said = last_lines(log, 1).removeprefix("careloop: ")
            raise LocalProblem(
                f"The population was not played in to the end: {said} (see {log}; `up` again continues)."
            )
        seeding.mark_seeded(stack.simulation)

    async def _follow(self, child: Child, log: Path, offset: int) -> None:
        """Shows what it prints until it ends."""
        with log.open("r", errors="replace") as lines:
            lines.seek(offset)
            while True:
                ended = not child.running  # asked first: what it printed last is still read
                while line := lines.readline():
                    self.progress.say(f"  {line.rstrip()}")
                if ended:
                    return
                await asyncio.sleep(FOLLOW_S)

    async def _watch(self) -> None:
        def children() -> dict[str, Child]:
            return {**self._servers.children, **self._programs.children}

        async def revive(name: str) -> None:
            if name in self._servers.launchers:
                await self._servers.launchers[name]()
                return
            program = self._programs.programs[name]
            self._programs.start(program)
            await self._programs.wait_ready(program)

        await gather_or_first_problem(
            [
                Reviver(report=self.progress.say).watch(children, revive),
                self._programs.end_deaf(every_s=self.live_every_s),
            ]
        )

    async def _stop(self) -> None:
        """Who uses the services first, then these, so that none sees its servers go; then what only they use; then the
        servers."""
        began = time.monotonic()
        await self._programs.stop(["population"])
        await self._programs.stop(SERVICES)
        await self._programs.stop([name for name in self._programs.programs if name not in SERVICES])
        await self._servers.stop(within_s=STOP_LIMIT_S - (time.monotonic() - began))


def addresses(stack: Stack) -> tuple[object, ...]:
    """Everything that a service is told of its stack."""
    return (
        stack.kafka_bootstrap,
        stack.kafka_access,
        stack.postgres_url,
        stack.valkey_url,
        stack.services,
        stack.issuer_url,
        stack.smtp_port,
    )


async def prepare_servers(stack: Stack) -> None:
    """Databases with roles and migrations, and topics, at once. Nothing is done twice.

    Raises LocalProblem where the servers hold something else than this version expects.
    """
    try:
        await gather_or_first_problem(
            [
                _prepare_databases(stack),
                create_topics(stack.kafka_bootstrap, namespace=stack.namespace, security=stack.kafka_access.options()),
            ]
        )
    except (MigrationError, TopicDiffers) as error:
        raise LocalProblem(f"The data in {stack.data} does not fit this version: {error}.") from error
    except (asyncpg.PostgresError, KafkaError) as error:
        raise LocalProblem(f"The servers could not be prepared: {type(error).__name__}: {error}.") from error


async def identify_servers(servers: Servers, *, access: KafkaAccess, namespace: str) -> str:
    """The same for the same clinic's data on the same database and Kafka clusters, wherever they answer. LocalProblem
    where one cannot be asked."""
    try:
        database = await database_cluster(servers.postgres_url)
        names = [database, await kafka_cluster(servers.kafka_bootstrap, security=access.options()), namespace]
    except (asyncpg.PostgresError, KafkaError, OSError) as error:
        raise LocalProblem(f"The servers could not be asked who they are: {type(error).__name__}: {error}.") from error
    return hashlib.blake2b(" ".join(names).encode(), digest_size=8).hexdigest()


async def _prepare_databases(stack: Stack) -> None:
    names = {service: database_name(service, namespace=stack.namespace) for service in stack.services}
    passwords = load_secrets(stack.data, list(names.values()))
    await create_databases(stack.postgres_url, passwords)
    await gather_or_first_problem(
        [migrate(service.database_url, service=name) for name, service in stack.services.items()]
    )


async def gather_or_first_problem(work: list[Coroutine[Any, Any, object]]) -> None:
    """Runs all at once; on the first failure the others are cancelled and it is raised as it was."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
