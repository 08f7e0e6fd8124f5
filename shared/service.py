"""One service process: HTTP, intake, relay, timers and its own tasks, started and stopped in order.

HTTP answers from the first moment; the rest starts behind it with backoff, and readiness tells the truth about it.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from faststream.kafka import KafkaBroker

from shared.auth import Authenticator
from shared.broker import build_broker
from shared.clock import Clock, monotonic, open_clock
from shared.commands import Work, new_command
from shared.database import TRANSIENT, Connection, Database, is_transient, open_database
from shared.dying import Attempts, CarefulWork, run_with_care
from shared.ending import end_tasks
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder
from shared.health import health_routes
from shared.hosting import Health, Pending
from shared.housekeeping import count_held, expire_waiting, forget_old, tell_lag
from shared.http import Problem, install_problems, unavailable
from shared.intake import Intake, introduce
from shared.kafka import abandon, look_after_brokers
from shared.lag import LogEnds, Place, Positions, Unread
from shared.member_locks import lock_members
from shared.migrating import missing_migrations
from shared.one_in_hand import OneInHand
from shared.outbox import write_outcomes
from shared.outcomes import Answer, Cause
from shared.panics import is_panic
from shared.relay import Relay
from shared.replaying import Reader, settle_waiting
from shared.settings import ServiceSettings
from shared.subscriptions import Subscription, TimerHandler, TimerSubscription
from shared.suspect_timers import CLAIM_MAX, Caution
from shared.taking import ChunkTaker
from shared.telemetry import BUGS, EVENTS_PUBLISHED, TASK_RESTARTS, TIMERS_RUN, configure_logs, describe_bug, logger
from shared.timers import TimersRun, is_any_due, run_timers
from shared.watching import Watch

TIMER_TICK_S = 0.1
"""How often due timers are looked for, in machine time."""
RAN_WELL_S = 30.0
STOP_S = 8.0
"""How long background work may take to end."""
log = logger("service")
__all__ = ["Pending", "Service", "Task", "run", "this_service"]


@dataclass(frozen=True)
class Task:
    """Background work of a service that runs as long as it does; started again with backoff when it fails."""

    name: str
    run: Callable[["Service"], Awaitable[None]]


class Service:
    """What a service's main.py composes. `app` is the ASGI application; its lifespan starts and stops the rest."""

    def __init__(
        self,
        *,
        name: str,
        settings: ServiceSettings,
        subscriptions: Sequence[Subscription] = (),
        timers: Sequence[TimerSubscription] = (),
        routers: Sequence[APIRouter] = (),
        tasks: Sequence[Task] = (),
        pending: Sequence[Pending] = (),
        wakes: Sequence[Callable[[Answer | None], None]] = (),
        clock: Clock | None = None,
    ) -> None:
        self.name, self.settings = name, settings
        self.clock = clock or open_clock(settings.clock_file)
        self.readers: Mapping[str, Reader] = {s.group: Reader(s, Decoder(TOPIC_OF[s.topic])) for s in subscriptions}
        self.timers: Mapping[str, TimerHandler] = {timer.kind: timer.run for timer in timers}
        self.pending = pending
        self.wakes = list(wakes)
        """Called after each commit of this process, with the answer of what it wrote where that is known. Cheap; never
        the truth."""
        self._log_ends = LogEnds(settings)
        self._one_in_hand = OneInHand()
        self._caution = Caution()
        self.relay: Relay | None = None
        self.intakes: Sequence[Intake] = ()
        self.broker: KafkaBroker | None = None
        self.health = Health()
        self._database: Database | None = None
        self._safety: Database | None = None
        self._requests: Database | None = None
        self._own_tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self.app = FastAPI(title=f"Careloop {name}", lifespan=self._lifespan, docs_url="/docs", redoc_url=None)
        self.app.state.service = self
        self.app.state.authenticator = Authenticator(settings.oidc_issuer, settings.oidc_audience)
        install_problems(self.app)
        self.app.include_router(health_routes(self))
        for router in routers:
            self.app.include_router(router)
        for failure in TRANSIENT:
            self.app.add_exception_handler(failure, _world_failed)

    # -- for routes and tasks

    @property
    def requests(self) -> Database:
        """The pool of whoever asks over HTTP, and waits for a short while only. Problem 503 until the database has been
        reached."""
        if self._requests is None:
            raise Problem(
                503, "starting", "The service has not reached its database yet.", headers={"Retry-After": "2"}
            )
        return self._requests

    @property
    def database(self) -> Database:
        """The pool of consumers, timers and tasks. Reached before the others."""
        assert self._database is not None
        return self._database

    @property
    def safety(self) -> Database:
        """The pool that red flags and the relay's lease have for themselves."""
        assert self._safety is not None
        return self._safety

    @asynccontextmanager
    async def command(
        self,
        name: str,
        *,
        member_ids: Sequence[UUID],
        request: Request | None = None,
        command_id: str | None = None,
        because: Cause | None = None,
    ) -> AsyncIterator[Work]:
        """One transaction for one command: members locked, then the block, then outbox and commit. An exception in the
        block rolls everything back. `because` continues the chain of an earlier event. Without a `request` nobody waits
        for it."""
        command = new_command(
            name, service=self.name, member_ids=member_ids, request=request, command_id=command_id, because=because
        )
        database, wait_s = (self.database, 10) if request is None else (self.requests, None)
        async with database.acquire(timeout=wait_s) as connection, connection.transaction():
            await lock_members(connection, member_ids)
            work = Work(connection, self.clock.now(), command)
            yield work
            published = await write_outcomes(connection, work.outcomes, service=self.name, scope=name, now=work.now)
            published += await self.settle_waiting(connection, list(member_ids), work.now)
        self.committed(published, urgent=any(draft.urgent for draft in work.outcomes.published))

    async def settle_waiting(
        self, connection: Connection, member_ids: Sequence[UUID], now: datetime, *, with_care: bool = False
    ) -> int:
        """Take what waited for something that this transaction may have brought; `with_care`, leave it for later."""
        if not member_ids or not self.readers:
            return 0
        settle = partial(settle_waiting, readers=self.readers, service=self.name)
        return await settle(connection, member_ids, now, with_care=with_care)

    async def find_unread(self, positions: Positions, *, at_once: bool = True) -> dict[Place, Unread]:
        """Where something lies between these positions and the end of the log (shared/lag.py)."""
        subscriptions = [reader.subscription for reader in self.readers.values()]
        return await self._log_ends.find_unread(positions, subscriptions, at_once=at_once)

    def committed(self, published: int, answer: Answer | None = None, *, urgent: bool = False) -> None:
        """Something was committed by this process: wake whoever acts on it. `answer`: of all that it wrote."""
        if published and self.relay is not None:
            self.relay.wake(urgent=urgent)
        for wake in self.wakes:
            wake(answer)

    # -- life

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._running = [asyncio.create_task(self._start())]
        try:
            yield
        finally:
            await self.stop()

    async def _start(self) -> None:
        """Reach the database, then Kafka, each with backoff for as long as it takes."""
        look_after_brokers()
        self._database = await self._reach_database(self.settings.database_connections)
        self._safety = await self._reach_database(self.settings.safety_connections)
        self._requests = await self._reach_database(self.settings.request_connections, for_requests=True)
        relay = self.relay = Relay(self.settings, self.database, self.safety)
        for task in (
            Task("relay", lambda _: relay.run()),
            self._with_care("timers", self._run_timers),
            # Once the timers have come through: of which of the two a process dies must be known, where it dies of one.
            self._with_care("waiting", partial(expire_waiting, self, {}), turn=2),
            Task("housekeeping", forget_old),
            Task("held events", count_held),
            *self._own_tasks,
        ):
            self._spawn(task)
        if self.readers:
            await self._reach_kafka()
            for intake in self.intakes:
                self._spawn(Task(f"positions {intake.subscription.group}", Watch(intake).run))
            self._spawn(Task("lag", tell_lag))
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        self.health.started = True
        log.info("started")

    def _spawn(self, task: Task) -> None:
        for counter in (BUGS, TASK_RESTARTS):  # before they rise, as in taking.py
            counter.labels(task.name)
        self._running.append(asyncio.create_task(self._supervise(task), name=task.name))

    def _with_care(self, name: str, work: CarefulWork, *, turn: int = 1) -> Task:
        """Red flags come through within a turn: a group waits a session's length for a member that died."""
        lives_after_s = turn * (self.settings.session_timeout_s + 10.0)
        return Task(name, lambda _: run_with_care(self.database, name=name, work=work, lives_after_s=lives_after_s))

    async def _supervise(self, task: Task) -> None:
        delay = 0.2
        while True:
            began = monotonic()
            try:
                await task.run(self)
                return
            except BaseException as error:
                if not isinstance(error, Exception) and not is_panic(error):
                    raise
                TASK_RESTARTS.labels(task.name).inc()
                if not is_transient(error):
                    BUGS.labels(task.name).inc()
                log.warning("a task failed and starts again", task=task.name, error=describe_bug(error), in_s=delay)
                # One that ran well for a while has got over what was wrong before.
                delay = 0.2 if monotonic() - began > RAN_WELL_S else delay
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _reach_database(self, connections: int, *, for_requests: bool = False) -> Database:
        delay = 0.1
        url = self.settings.database_url.get_secret_value()
        while True:
            database: Database | None = None
            try:
                database = await open_database(
                    url, connections=connections, application=f"careloop {self.name}", for_requests=for_requests
                )
                async with database.acquire() as connection:
                    missing = await missing_migrations(connection, service=self.name)
                if not missing:
                    return database
                self.health.why = f"waits for {len(missing)} migrations"
            except Exception as error:  # whatever it is: nobody else begins again
                self.health.why = f"database: {type(error).__name__}"
            if database is not None:
                database.terminate()  # its connections would stay open, and so would those of each attempt
            log.warning("not started yet", why=self.health.why)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    async def _reach_kafka(self) -> None:
        delay = 0.1
        while True:
            self.broker, self.intakes = None, ()
            try:
                self.broker = build_broker(self.settings)
                self.intakes = [self._new_intake(reader) for reader in self.readers.values()]
                introduce(self.intakes)
                for intake in self.intakes:
                    intake.subscribe(self.broker)
                await self.broker.start()
                return
            except Exception as error:
                self.health.why = f"kafka: {type(error).__name__}"
                log.warning("not started yet", why=self.health.why)
                for intake in self.intakes:  # those that had begun
                    await intake.release_all()
                if self.broker is not None:
                    with suppress(Exception):
                        await asyncio.wait_for(self.broker.stop(), 5)
                for intake in self.intakes:
                    abandon(intake.consumer)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    def _new_intake(self, reader: Reader) -> Intake:
        """One that raises red flags shares no connection: whoever waits for a member cannot hold it up."""
        stateless = reader.subscription.stateless
        taker = ChunkTaker(
            reader=reader,
            service=self.name,
            database=self.safety if stateless else self.database,
            clock=self.clock,
            settle_waiting=self.settle_waiting,
            committed=partial(self.committed, urgent=stateless),
            records_max=self.settings.chunk_records,
            one_in_hand=self._one_in_hand,
        )
        return Intake(taker, self.settings)

    async def _run_timers(self, is_careful: Callable[[], bool]) -> None:
        if not self.timers:
            return
        while True:
            result = await self._run_due(Attempts(self.database) if is_careful() else None)
            for bug in result.bugs:
                BUGS.labels("timers").inc()
                log.error("a timer failed", bug=bug)
            if result.run:
                TIMERS_RUN.labels(self.name).inc(result.run)
                EVENTS_PUBLISHED.labels("timers").inc(result.published)
                self.committed(result.published)
            if result.run < (1 if is_careful() else CLAIM_MAX):
                await asyncio.sleep(TIMER_TICK_S)

    async def _run_due(self, attempts: Attempts | None) -> TimersRun:
        """Run a batch of what is due; one statement where nothing is."""
        async with self.database.acquire(timeout=30) as connection:
            if not await is_any_due(connection, kinds=list(self.timers), now=self.clock.now()):
                return TimersRun()
            async with connection.transaction():
                return await run_timers(
                    connection,
                    self.timers,
                    service=self.name,
                    now=self.clock.now(),
                    settle_waiting=self.settle_waiting,
                    caution=self._caution,
                    attempts=attempts,
                )

    async def stop(self) -> None:
        """Stop in order: intake drains the chunk in hand, then the tasks, then the connections."""
        self.health.stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                # At once: one that is stuck must not keep the others from being handed over in order.
                await asyncio.gather(*(intake.release_all() for intake in self.intakes))
                if self.broker is not None:
                    with suppress(Exception):
                        await self.broker.stop()
                await self._log_ends.close()
        if not await end_tasks(self._running, within_s=STOP_S):
            log.error("some background work did not end")
        with suppress(Exception):
            await self.app.state.authenticator.close()
        for database in (self._requests, self._safety, self._database):
            if database is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(database.close(), 3)
                database.terminate()
        structlog.get_logger(part="service").info("stopped")


async def _world_failed(_: Request, error: Exception) -> Response:
    if not is_transient(error):
        raise error
    return unavailable().response()


async def this_service(request: Request) -> Service:
    """FastAPI dependency: the service whose route this is. Async, as FastAPI asks a thread for what is not."""
    service: Service = request.app.state.service
    return service


def run(service: Service) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order."""
    settings = service.settings
    configure_logs(settings.log_level, service=service.name)
    # For the moment before the server has a handler of its own. At its end it raises once more what that has handled:
    # a process that stopped in order exits with 0.
    signal.signal(signal.SIGTERM, lambda *_: None if service.health.stopping else sys.exit(0))
    uvicorn.run(
        service.app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
