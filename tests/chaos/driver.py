"""Hurts the services and servers of a run as its faults say, each at its time.

A fault that needs a service's processes waits for the one before it on that service; servers are hurt beside that.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from shared.clock import monotonic
from shared.database import Connection
from tests.chaos.faults import Fault, FaultKind, Service
from tests.chaos.patience import CONNECTED_S, UNANSWERED, connected
from tests.chaos.refusing import refusing
from tests.chaos.restoring import restore
from tests.chaos.slow_disk import slow_disk, stopped
from tests.chaos.victim import CLOCK_STEP
from tests.chaos.world import READY_S, SESSION_TIMEOUT_S, Crew, World
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess

IN_TIME_S = 6.0
"""How long a process may take to come to a point; then the same is done to it wherever it is."""
CUT = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
"""
LOCK = "lock table delivery.{} in access exclusive mode"
RECORDS_READ = "select coalesce(sum(records_read), 0)::int from delivery.positions"
TIMERS_DUE = "select count(*) from delivery.timers where due_at <= $1"
OUTBOX = "select count(*) from delivery.outbox"
HANDED_OVER_S = 1.5
"""Within this the relay has handed over what lies in the outbox, several times if it forgets what it has."""
SCALED_TO = 4
"""Processes: one more than there are partitions."""
TAKEN_OVER = 40
"""After so many records read by its successor a stopped process goes on."""
STEPPED_S = 3.0


HURTING_A_CREW: frozenset[FaultKind] = frozenset(
    {"kill-at", "kill", "stop-at", "stop", "kill-in-rebalance", "scale", "deploy", "restore", "due-in-outage"}
)
"""What is done to processes of one service, one such fault at a time."""


@dataclass
class Driver:
    world: World
    say: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    """What was done, as it was done."""
    _servers: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self, faults: Sequence[Fault]) -> None:
        """All faults, each at its time or as soon after it as the one before on the same thing is over."""
        began = monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in sorted(faults, key=lambda one: one.at_s):
                await asyncio.sleep(max(0.0, fault.at_s - (monotonic() - began)))
                group.create_task(self.inflict(fault))

    async def inflict(self, fault: Fault) -> None:
        does: dict[FaultKind, Callable[[Fault], Awaitable[None]]] = {
            "kill-at": self._kill_at, "kill": self._kill, "stop-at": self._stop, "stop": self._stop,
            "kill-in-rebalance": self._kill_in_rebalance, "server": self._server, "cut": self._cut,
            "slow-table": self._slow_table, "deploy": self._deploy, "clock": self._clock, "restore": self._restore,
            "due-in-outage": self._due_in_outage, "slow-disk": self._slow_disk, "no-relay": self._no_relay,
            "frozen": self._frozen, "vanish": self._vanish, "read-only": self._refused, "crowded": self._refused,
            "cancelled": self._refused, "unheard": self._refused, "scale": self._scale,
        }  # fmt: skip
        if fault.kind in HURTING_A_CREW:
            assert fault.service
            crew = self.world.crews[fault.service]
            async with crew.hurting:
                await self._whole(crew)
                await does[fault.kind](fault)
                await self._whole(crew)
        else:
            await does[fault.kind](fault)
        self.say(f"done: {fault}")
        self.done.append(str(fault))

    async def inflict_upon(self, event: Callable[[], None], faults: Sequence[Fault]) -> None:
        """Kill at points that are reached because of an event, ordered before it comes; with Kafka away meanwhile where
        the faults say so."""
        crews = [self.world.crews[fault.service] for fault in faults if fault.service]
        for crew in crews:
            await self._whole(crew)
        is_outage = any(fault.kind == "due-in-outage" for fault in faults)
        async with self._without_kafka() if is_outage else nullcontext():
            dying: list[Awaitable[None]] = []
            for fault, crew in zip(faults, crews, strict=True):
                assert fault.point
                (process,) = crew.processes
                self.world.order(process, "kill", fault.point, fault.nth)
                dying.append(self._die_unacknowledged(crew, process) if is_outage else self._die(crew, process))
            event()
            await asyncio.gather(*dying)
        self.done += map(str, faults)

    async def _whole(self, crew: Crew) -> None:
        """Until one process is ready and makes progress."""
        (process,) = crew.processes
        await self.world.ready(process)
        await self.world.has_moved(crew.service)

    # -- processes

    async def _kill_at(self, fault: Fault) -> None:
        assert fault.service
        assert fault.point
        crew = self.world.crews[fault.service]
        (process,) = crew.processes
        self.world.order(process, "kill", fault.point, fault.nth)
        await self._die(crew, process)

    async def _die(self, crew: Crew, process: ServiceProcess) -> None:
        """At the point that it was ordered to, or in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(_ended(process), IN_TIME_S)
        await self._replace(crew, process)

    async def _kill(self, fault: Fault) -> None:
        assert fault.service
        crew = self.world.crews[fault.service]
        await self._replace(crew, crew.processes[0])

    async def _replace(self, crew: Crew, process: ServiceProcess) -> None:
        """End it with SIGKILL, if it has not ended yet, and start another."""
        await process.kill()
        self.world.withdraw(process)
        crew.processes.remove(process)
        await self.world.start(crew.service)

    async def _stop(self, fault: Fault) -> None:
        """A process is stopped until another has taken over, then goes on: whatever it does now is too late."""
        assert fault.service
        crew = self.world.crews[fault.service]
        (process,) = crew.processes
        if fault.point:
            self.world.order(process, "stop", fault.point, fault.nth)
            with suppress(AssertionError):
                await eventually(lambda: _is_stopped(process), within=IN_TIME_S)
            self.world.withdraw(process)
        process.signal(signal.SIGSTOP)
        stopped_at = await self._records_read(crew)
        other = await self.world.start(fault.service)
        await self.world.ready(other)
        await asyncio.sleep(max(fault.hold_s, SESSION_TIMEOUT_S + 1.0))
        with suppress(AssertionError):  # the stream may have ended
            await eventually(partial(self._has_read, crew, stopped_at + TAKEN_OVER), within=IN_TIME_S)
        process.signal(signal.SIGCONT)
        # It finds out, or does harm.
        await asyncio.sleep(1.0)
        await process.terminate(within=READY_S)
        crew.processes.remove(process)

    async def _records_read(self, crew: Crew) -> int:
        """-1 where the database is away."""
        try:
            async with asyncio.timeout(CONNECTED_S), self.world.connect(crew.service) as connection:
                count: int = await connection.fetchval(RECORDS_READ)
                return count
        except UNANSWERED:
            return -1

    async def _has_read(self, crew: Crew, count: int) -> bool:
        return await self._records_read(crew) >= count

    async def _kill_in_rebalance(self, fault: Fault) -> None:
        """Another process joins; the first dies as its partitions are taken from it, or as it is given new ones."""
        assert fault.service
        assert fault.point
        crew = self.world.crews[fault.service]
        (process,) = crew.processes
        self.world.order(process, "kill", fault.point)
        await self.world.start(fault.service)
        with suppress(TimeoutError):
            await asyncio.wait_for(_ended(process), 2 * IN_TIME_S)
        await process.kill()
        self.world.withdraw(process)
        crew.processes.remove(process)

    async def _scale(self, fault: Fault) -> None:
        """So many processes that one has no partition, and then the newest alone: every partition moves, at the same
        moment as those of the others."""
        assert fault.service
        crew = self.world.crews[fault.service]
        for process in await asyncio.gather(*(self.world.start(fault.service) for _ in range(1, SCALED_TO))):
            await self.world.ready(process)
        await asyncio.sleep(fault.hold_s)
        *others, _ = crew.processes
        await asyncio.gather(*(process.terminate(within=READY_S) for process in others))
        del crew.processes[:-1]

    async def _deploy(self, fault: Fault) -> None:
        """Two releases after each other, each with a migration that is interrupted once; the new process is there
        before the old one goes, then the other way round."""
        assert fault.service
        crew = self.world.crews[fault.service]
        for first in ("new", "old"):
            (process,) = crew.processes
            crew.release += 1
            killed = await self.world.migrate(crew.service, killed_at=1)
            assert killed in (-signal.SIGKILL, 1), f"a migration was to be interrupted: {killed}"
            await eventually(partial(self._migrated, crew), within=READY_S, what="a release is migrated")
            if first == "old":
                await process.terminate(within=READY_S)
                crew.processes.remove(process)
            other = await self.world.start(fault.service)
            await self.world.ready(other)
            if first == "new":
                await process.terminate(within=READY_S)
                crew.processes.remove(process)

    async def _migrated(self, crew: Crew) -> bool:
        return await self.world.migrate(crew.service) == 0

    async def _restore(self, fault: Fault) -> None:
        assert fault.service
        await restore(self.world, self.world.crews[fault.service], after_s=fault.hold_s, servers=self._servers)

    # -- servers

    async def _server(self, fault: Fault) -> None:
        names = _names(fault)
        async with self._servers:
            await asyncio.gather(*(self.world.stage.kill(name) for name in names))
            await asyncio.sleep(fault.hold_s)
            await asyncio.gather(*(self.world.stage.restart(name) for name in names))

    async def _frozen(self, fault: Fault) -> None:
        """Connections stay, and nothing comes of them: for longer than a group waits for its members."""
        async with self._servers:
            with ExitStack() as stack:
                for name in _names(fault):
                    stack.enter_context(stopped(self.world.stage.servers.children[name].process.pid))
                await asyncio.sleep(fault.hold_s)

    async def _slow_disk(self, fault: Fault) -> None:
        """The disk under PostgreSQL, for all services."""
        stage, chance = self.world.stage, random.Random(str(fault))
        async with self._servers:
            postmaster = stage.servers.children["postgres"].process.pid
            async with slow_disk(postmaster, stage.urls.postgres_url, chance=chance):
                await asyncio.sleep(fault.hold_s)

    @asynccontextmanager
    async def _without_kafka(self) -> AsyncIterator[None]:
        """Kafka is away while the block runs."""
        async with self._servers:
            await self.world.stage.kill("kafka")
            yield
            await self.world.stage.restart("kafka")

    async def _due_in_outage(self, fault: Fault) -> None:
        """Timers fall due while Kafka is away, and who publishes what they decide dies before it is acknowledged."""
        assert fault.service
        assert fault.point
        crew = self.world.crews[fault.service]
        (process,) = crew.processes
        async with self._without_kafka():
            self.world.order(process, "kill", fault.point, fault.nth)
            self.world.move_clock(timedelta(seconds=fault.by_s))
            await self._die_unacknowledged(crew, process)

    async def _die_unacknowledged(self, crew: Crew, process: ServiceProcess) -> None:
        """When there is something to publish and the relay had time to hand it over; at once where the relay deletes
        what nobody has acknowledged."""
        async with self.world.connect(crew.service) as connection:
            with suppress(AssertionError):  # nothing was due
                await eventually(partial(self._has_something, connection, process), within=IN_TIME_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(_ended(process), HANDED_OVER_S)
        await self._replace(crew, process)

    async def _has_something(self, connection: Connection, process: ServiceProcess) -> bool:
        """Its timers have run, and what they decided is to be published; or it has ended."""
        due: int = await connection.fetchval(TIMERS_DUE, self.world.clock.now())
        to_publish: int = await connection.fetchval(OUTBOX)
        assert process.process
        return process.process.returncode is not None or (due == 0 and to_publish > 0)

    async def _cut(self, fault: Fault) -> None:
        """Every connection of a service to its database."""
        assert fault.service
        await self._tell_database(fault.service, CUT)

    async def _vanish(self, fault: Fault) -> None:
        """Every connection of a service to its database is heard of no more, while what is new gets through: so does a
        failover look where a host went without a word. Transactions that were open stay open until the server ends
        them."""
        assert fault.service
        line = self.world.crews[fault.service].line
        assert line is not None
        await eventually(lambda: line.lose() > 0, within=READY_S, what=f"{fault.service} speaks on its line")
        await asyncio.sleep(fault.hold_s)
        line.tell()

    async def _refused(self, fault: Fault) -> None:
        """A service's database answers, and says no; or it does what it is told, and does not say so."""
        assert fault.service
        name = self.world.crews[fault.service].database_url.rpartition("/")[2]
        async with self._servers, refusing(fault.kind, self.world.stage.urls.postgres_url, name, str(fault)):
            await asyncio.sleep(fault.hold_s)

    async def _slow_table(self, fault: Fault) -> None:
        """Nobody writes to a table or reads it for a while, as under a migration or an operator that locks it."""
        assert fault.service
        await self._tell_database(fault.service, LOCK.format(fault.table), hold_s=fault.hold_s)

    async def _no_relay(self, fault: Fault) -> None:
        """Nobody can take a service's lease or keep it: what is decided piles up in the outbox."""
        assert fault.service
        await self._tell_database(fault.service, LOCK.format("relay_lease"), hold_s=fault.hold_s)

    async def _tell_database(self, service: Service, statement: str, *, hold_s: float = 0.0) -> None:
        """One transaction; where the database is away, its servers' own fault comes first."""
        url = self.world.crews[service].database_url
        async with self._servers, connected(url) as connection, connection.transaction():
            await connection.execute(statement)
            await asyncio.sleep(hold_s)

    # -- time

    async def _clock(self, fault: Fault) -> None:
        """The clocks of one service's machine are off for a while, or clinic time moves on for everybody."""
        if fault.service is None:
            self.world.move_clock(timedelta(seconds=abs(fault.by_s)))
            return
        file = self.world.folder / f"{fault.service}.{CLOCK_STEP}"
        file.write_text(str(fault.by_s))
        await asyncio.sleep(STEPPED_S)
        file.write_text("0")


def _names(fault: Fault) -> list[str]:
    """Of the servers that it hurts."""
    assert fault.server
    return ["kafka", "postgres", "valkey"] if fault.server == "all" else [fault.server]


async def _ended(process: ServiceProcess) -> None:
    assert process.process
    await process.process.wait()


def _is_stopped(process: ServiceProcess) -> bool:
    assert process.process
    with open(f"/proc/{process.process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"
