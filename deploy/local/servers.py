"""Kafka, PostgreSQL and Valkey for one machine, started and stopped together.

    async with embedded_servers(data=Path(".careloop")) as servers:
        servers.kafka_bootstrap, servers.postgres_url, servers.valkey_url

Run alone: `python -m deploy.local.servers --data DIR`.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy.local import aot_cache, kafka, postgres, valkey
from deploy.local.ports import HOST, require_free_port
from deploy.local.problems import LocalProblem
from deploy.local.processes import Child, ProcessFile, in_daemon_thread, stop_recorded, write_private

FREE_BYTES_MIN = 512 * 1024 * 1024

Report = Callable[[str], None]

SERVER_STOPS = {
    "valkey": (valkey.STOP_SIGNAL, valkey.STOP_GRACE_S),
    "postgres": (postgres.STOP_SIGNAL, postgres.STOP_GRACE_S),
    "kafka": (kafka.STOP_SIGNAL, kafka.STOP_GRACE_S),
}
PROGRAM_STOP = (signal.SIGTERM, 5.0)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where the three are. `postgres_url` is a superuser's; `embedded` names those that we started."""

    kafka_bootstrap: str
    postgres_url: str
    valkey_url: str
    embedded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServerChoices:
    """What to start and where; 0 is any free port. A server whose URL is given is external: used, never started."""

    kafka_port: int = 0
    postgres_port: int = 0
    valkey_port: int = 0
    kafka_bootstrap: str | None = None
    kafka_security: Mapping[str, Any] = field(default_factory=dict)
    """How to talk to a Kafka that is given, as keywords of its client."""
    postgres_url: str | None = None
    valkey_url: str | None = None
    postgres_connections_max: int = 200
    kafka_heap_mb: int = 512
    kafka_is_optimised: bool = False

    @property
    def embedded(self) -> tuple[str, ...]:
        """Those that are started here."""
        given = {"kafka": self.kafka_bootstrap, "postgres": self.postgres_url, "valkey": self.valkey_url}
        return tuple(name for name, url in given.items() if url is None)


@dataclass(kw_only=True)
class EmbeddedServers:
    """The running three. `children` holds those we started, by name; `launchers` start one again where it was."""

    data: Path
    choices: ServerChoices
    record: ProcessFile
    report: Report
    children: dict[str, Child] = field(default_factory=dict)
    launchers: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    """Every process of theirs is there, though it may not answer yet."""

    async def start(self) -> Servers:
        """Starts what is not external, all at once. Raises LocalProblem, with nothing left running."""
        secret = load_secrets(self.data, ("postgres", "valkey"))
        choices = self.choices
        self._note_launched()
        try:
            async with asyncio.TaskGroup() as group:
                started_kafka = group.create_task(self._start_kafka())
                started_postgres = group.create_task(self._start_postgres(secret["postgres"]))
                started_valkey = group.create_task(self._start_valkey(secret["valkey"]))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise _first_problem(failures, self.data) from failures
        except BaseException:
            await self.stop()
            raise
        return Servers(
            kafka_bootstrap=started_kafka.result(),
            postgres_url=started_postgres.result(),
            valkey_url=started_valkey.result(),
            embedded=choices.embedded,
        )

    async def stop(self, *, within_s: float = 60.0) -> None:
        """All three at once, as none writes to another. Each has its own grace, or less when `within_s` is less."""

        async def stop_one(name: str, child: Child) -> None:
            orderly = await replace(child, grace_s=min(child.grace_s, max(within_s, 1.0))).stop()
            self.report(f"{name} stopped" if orderly else f"{name} did not stop in time and was killed")

        children = [(name, self.children.pop(name)) for name in SERVER_STOPS if name in self.children]
        await asyncio.gather(*(stop_one(name, child) for name, child in children))

    async def _start_kafka(self) -> str:
        if self.choices.kafka_bootstrap is not None:
            await kafka.wait_for_kafka(
                None, self.choices.kafka_bootstrap, security=self.choices.kafka_security, limit_s=15
            )
            return self.choices.kafka_bootstrap
        folder = self.data / "kafka"
        require_free_port(self.choices.kafka_port, what="Kafka", setting="CARELOOP_KAFKA_PORT")  # told before long work
        software = await in_daemon_thread(kafka.find_software)
        await in_daemon_thread(lambda: kafka.prepare_kafka(software, folder))
        await self._train_java(software)
        port = require_free_port(self.choices.kafka_port, what="Kafka", setting="CARELOOP_KAFKA_PORT")
        settings = kafka.KafkaSettings(
            port=port, heap_mb=self.choices.kafka_heap_mb, is_optimised=self.choices.kafka_is_optimised
        )
        bootstrap = f"{HOST}:{port}"

        async def launch() -> None:
            options = aot_cache.cache_options(software)
            child = self.children["kafka"] = kafka.start_kafka(
                software, folder, settings, record_in=self.record, java_options=options
            )
            self._note_launched()
            await kafka.wait_for_kafka(child, bootstrap)

        self.launchers["kafka"] = launch
        await launch()
        self.report(f"kafka answers on {bootstrap}")
        return bootstrap

    def _note_launched(self) -> None:
        if all(name in self.children for name in self.choices.embedded):
            self.launched.set()

    async def _train_java(self, software: kafka.KafkaSoftware) -> None:
        if not aot_cache.training_due(software):
            return
        self.report("trying out Kafka once, so that Java starts it faster from now on")
        problem = await aot_cache.train(software, self.data / "kafka-training", record_in=self.record)
        if problem:
            self.report(f"Kafka will start slower than it could: {problem}")

    async def _start_postgres(self, password: str) -> str:
        if self.choices.postgres_url is not None:
            await postgres.wait_for_postgres(None, self.choices.postgres_url, limit_s=15)
            return self.choices.postgres_url
        folder = self.data / "postgres"
        port = require_free_port(self.choices.postgres_port, what="PostgreSQL", setting="CARELOOP_POSTGRES_PORT")
        await in_daemon_thread(lambda: postgres.prepare_postgres(folder, password=password))
        settings = postgres.PostgresSettings(
            port=port, password=password, connections_max=self.choices.postgres_connections_max
        )
        url = postgres.postgres_url(port=port, password=password)

        async def launch() -> None:
            await postgres.clear_after_crash(folder)
            child = self.children["postgres"] = postgres.start_postgres(folder, settings, record_in=self.record)
            self._note_launched()
            await postgres.wait_for_postgres(child, url)

        self.launchers["postgres"] = launch
        await launch()
        self.report(f"postgres answers on {HOST}:{port}")
        return url

    async def _start_valkey(self, password: str) -> str:
        if self.choices.valkey_url is not None:
            await valkey.wait_for_valkey(None, self.choices.valkey_url, limit_s=15)
            return self.choices.valkey_url
        port = require_free_port(self.choices.valkey_port, what="Valkey", setting="CARELOOP_VALKEY_PORT")
        url = valkey.valkey_url(port=port, password=password)
        folder = self.data / "valkey"

        async def launch() -> None:
            child = self.children["valkey"] = valkey.start_valkey(
                folder, port=port, password=password, record_in=self.record
            )
            self._note_launched()
            await valkey.wait_for_valkey(child, url)

        self.launchers["valkey"] = launch
        await launch()
        self.report(f"valkey answers on {HOST}:{port}")
        return url


async def stop_orphans(data: Path, record: ProcessFile, *, report: Report) -> None:
    """Ends what an earlier supervisor on this data left running when it was killed: programs first, then servers."""
    programs = {name: PROGRAM_STOP for name in record.entries if name not in SERVER_STOPS}
    for together in (programs, SERVER_STOPS):
        await asyncio.gather(*(_stop_orphan(data, record, name, how, report=report) for name, how in together.items()))


async def _stop_orphan(
    data: Path, record: ProcessFile, name: str, how: tuple[signal.Signals, float], *, report: Report
) -> None:
    entry = record.entries.get(name)
    if entry is None:
        return
    if await stop_recorded(entry, stop_signal=how[0], grace_s=how[1]):
        report(f"stopped a {name} that an earlier run on {data} had left behind")
    record.forget(name)


def load_secrets(data: Path, names: Sequence[str]) -> dict[str, str]:
    """The passwords of `names`: made once, kept with the data that they guard."""
    path = data / "secrets.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in names if name not in found]
    if missing:
        found |= {name: secrets.token_urlsafe(24) for name in missing}
        write_private(path, json.dumps(found))
    return {name: found[name] for name in names}


def _first_problem(failures: BaseExceptionGroup[BaseException], data: Path) -> BaseException:
    """The one to show: what its user can mend, else whatever came first."""
    problems, others = failures.split(LocalProblem)
    chosen = (problems or others or failures).exceptions[0]
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    if isinstance(chosen, OSError) and chosen.errno == errno.ENOSPC:
        return LocalProblem(f"There is no space left on the disk that holds {data}.")
    return chosen


def require_space(data: Path) -> None:
    """Raises LocalProblem if the disk under `data` is (nearly) full: servers fail in worse ways later."""
    free = shutil.disk_usage(data).free
    if free < FREE_BYTES_MIN:
        raise LocalProblem(
            f"The disk that holds {data} has {free // 2**20} MB free; the servers need {FREE_BYTES_MIN // 2**20} MB."
        )


def lock_data(data: Path) -> int:
    """Takes the data directory for this process alone; the lock goes with the process. Raises LocalProblem.

    Returns the descriptor to close when done. `flock` needs no clean-up after a crash, unlike a pid in a file.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LocalProblem(f"There is no space left on the disk that holds {data}.") from None
        raise LocalProblem(f"The data directory {data} cannot be used: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LocalProblem(
            f"Another copy already runs on {data}: stop it first, or choose another folder with --data."
        ) from None
    return descriptor


@contextlib.asynccontextmanager
async def embedded_servers(
    *, data: Path, choices: ServerChoices | None = None, report: Report = lambda line: None
) -> AsyncIterator[Servers]:
    """The three servers on `data`, for as long as the block runs. Raises LocalProblem."""
    data = data.absolute()
    lock = lock_data(data)
    try:
        require_space(data)
        record = ProcessFile(path=data / "processes.json").load()
        await stop_orphans(data, record, report=report)
        running = EmbeddedServers(data=data, choices=choices or ServerChoices(), record=record, report=report)
        servers = await running.start()
        try:
            yield servers
        finally:
            await asyncio.shield(running.stop())
    finally:
        os.close(lock)
