"""One run: people join, a stream is published while a driver hurts what takes it, an oracle judges what came of it."""

import asyncio
import signal
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from services.plans.subscriptions import SUBSCRIPTIONS
from shared.dead_letters import Bench, replay
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder
from shared.replaying import Reader
from tests.chaos.asking import Asker
from tests.chaos.clients import Clients
from tests.chaos.driver import TIMERS_DUE, Driver
from tests.chaos.enrolling import Enroller, Enrolment, draw_enrolling_faults, draw_enrolments
from tests.chaos.errands import Errands, draw_errands
from tests.chaos.faults import SERVICES, Fault, Point, Service, draw_faults, due_in_outage
from tests.chaos.findings import Finding, Findings
from tests.chaos.judge import judge
from tests.chaos.overriding import OverrideErrand, Overrider, draw_overrides
from tests.chaos.people import Cast, draw_cast, opening_of
from tests.chaos.posting import Poster
from tests.chaos.publishing import Publisher
from tests.chaos.service_logs import judge_service_logs
from tests.chaos.stream import Publication, draw_stream
from tests.chaos.victim import MENDED
from tests.chaos.world import Stage, World, open_world
from tests.fixtures.eventually import eventually

REMINDING = time(17, 10, tzinfo=ZoneInfo("America/New_York"))
"""In the middle of the minutes over which the day's reminders are spread; red flags were to be answered long before."""
EVENING = timedelta(hours=9)
"""From the opening to when the rest of the reminders and the first escalations of what could wait are due."""
BUGS = "select held_id from delivery.held_events where consumer_group = 'plans.activity' and reason = 'bug'"

DOCUMENTING = Fault(0, "kill-at", "messaging", "command-done")


@dataclass(frozen=True)
class Plan:
    """All that is going to happen: a pure function of the seed, the length and the day."""

    seed: int
    seconds: float
    cast: Cast
    opening: datetime
    stream: tuple[Publication, ...]
    faults: tuple[Fault, ...]
    errands: Errands
    enrolments: tuple[Enrolment, ...]
    overrides: tuple[OverrideErrand, ...]
    evening: tuple[Fault, ...] = ()
    """What is done at the end, when timers are due."""
    documenting: tuple[Fault, ...] = ()
    """What is done while visits are documented."""
    is_brief: bool = False
    """Migrations are not interrupted."""

    @property
    def command(self) -> str:
        return f"make chaos SEED={self.seed} MINUTES={self.seconds / 60:g}"


def draw_plan(seed: int, *, seconds: float, today: date) -> Plan:
    cast, opening = draw_cast(seed), opening_of(today)
    stream = draw_stream(seed, seconds=seconds, cast=cast, opening=opening)
    points: tuple[Point, Point] = ("timers-claimed", "before-timers-commit")
    services: tuple[Service, Service] = ("messaging", "notifications")
    kills = [Fault(seconds, "kill-at", service, points[(seed + number) % 2]) for number, service in enumerate(services)]
    evening = (*kills, *due_in_outage(seconds))
    errands = draw_errands(seed, seconds=seconds, cast=cast, opening=opening)
    enrolments = draw_enrolments(seed, seconds=seconds, cast=cast)
    faults = draw_faults(seed, seconds=seconds) + draw_enrolling_faults(seed, enrolments)
    return Plan(
        seed, seconds, cast, opening, tuple(stream), tuple(faults), errands, enrolments,
        draw_overrides(seed, seconds=seconds, cast=cast), evening, (DOCUMENTING,),
    )  # fmt: skip


@dataclass
class Outcome:
    plan: Plan
    findings: list[Finding]
    done: list[str] = field(default_factory=list)
    logs: str = ""

    @property
    def report(self) -> str:
        """What a failure prints: what is wrong, what was done, and how to have it again."""
        wrong = "\n".join(f"  {finding}" for finding in self.findings[:40])
        done = "\n".join(f"  {line}" for line in self.done)
        return f"{len(self.findings)} findings:\n{wrong}\nafter:\n{done}\nagain: {self.plan.command}\nlogs: {self.logs}"


async def run(stage: Stage, plan: Plan, *, mutant: str | None = None, say: Callable[[str], None] = print) -> Outcome:
    far_away = {fault.service for fault in plan.faults if fault.kind == "vanish" and fault.service}
    async with open_world(stage, plan.opening, mutant=mutant, far_away=far_away) as world:
        driver = Driver(world, say)
        publisher = Publisher(stage.urls.kafka_bootstrap, world.namespace)
        asker = Asker(world)
        poster, clients, enroller = Poster(asker), Clients(asker, plan.cast), Enroller(asker, plan.cast)
        overrider = Overrider(asker, plan.cast, world.crews["plans"], clients.told.overrides)
        try:
            await _open(world, plan, publisher, enroller)
            say("open; the stream begins")
            await _all_of(
                publisher.play([o for o in plan.stream if o.at_s >= 0 and o.way == "kafka"]),
                poster.play([one for one in plan.stream if one.way != "kafka"]),
                clients.play(plan.errands),
                enroller.play(plan.enrolments),
                overrider.play(plan.overrides),
                driver.play(plan.faults),
            )
            say("published; coming to rest")
            await world.settled()
            await _mend(world)
            await _evening(world, driver, clients, plan)
            say("at rest; judging")
            judged = await judge(world, plan.cast, plan.stream, clients.told, enroller.told)
            findings = poster.refused.found + judged.found
        except* Exception as failures:
            # Whatever it is, a failure of the run's own too: told with the seed, which would be lost with it.
            problems = Findings()
            for failure in _leaves(failures):
                problems.add("rest", f"{type(failure).__name__} at {_place_of(failure)}: {failure}")
            judge_service_logs(world.folder, problems)
            findings = problems.found
        finally:
            await publisher.close()
            await asker.close()
        return Outcome(plan, findings, driver.done, str(world.folder))


async def _all_of(*doing: Coroutine[Any, Any, None]) -> None:
    """Side by side, each to its end. A group is silent about one that a client's own cancellation has ended, and what
    it was to do would be missing from the run."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in doing]
    if cut := [getattr(task.get_coro(), "__qualname__", "") for task in tasks if task.cancelled()]:
        raise RuntimeError(f"cut off in the middle: {', '.join(cut)}")


def _place_of(failure: BaseException) -> str:
    """The last line of the run's own that led to it."""
    ours = [frame for frame in traceback.extract_tb(failure.__traceback__) if "/tests/chaos/" in frame.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "a place of somebody else"


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for one in group.exceptions:
        leaves += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return leaves


async def _open(world: World, plan: Plan, publisher: Publisher, enroller: Enroller) -> None:
    """Databases are migrated, interrupted once; services start; whoever joins before the run has joined, and those who
    walk in during it are covered."""
    processes = [await world.start(service) for service in SERVICES]

    async def migrate(number: int, service: Service) -> None:
        if not plan.is_brief:
            killed = await world.migrate(service, killed_at=1 + (plan.seed + number) % 2)
            assert killed == -signal.SIGKILL, f"the migration of {service} was to be interrupted: {killed}"
        assert await world.migrate(service) == 0, f"{service} cannot be migrated"

    await asyncio.gather(*(migrate(number, service) for number, service in enumerate(SERVICES)))
    await publisher.publish([one for one in plan.stream if one.at_s < 0])
    for process in processes:
        await world.ready(process)
    await enroller.prepare(plan.opening)
    await world.settled()


async def _mend(world: World) -> None:
    """The handler of plans is mended, and an operator replays what it failed at."""
    (world.folder / MENDED).touch()
    readers = {one.group: Reader(one, Decoder(TOPIC_OF[one.topic])) for one in SUBSCRIPTIONS}
    async with world.connect("plans") as connection:
        for row in await connection.fetch(BUGS):
            async with connection.transaction():
                bench = Bench(readers=readers, service="plans", now=world.clock.now())
                await replay(connection, row["held_id"], bench)
    await world.settled()


async def _evening(world: World, driver: Driver, clients: Clients, plan: Plan) -> None:
    """Clinic time moves on to when reminders and escalations are due, and those who run them are killed at it; then
    once more, to when the rest is, while Kafka is away; visits are documented while messaging is killed. Then it stands
    still."""

    def move_to(moment: datetime) -> Callable[[], None]:
        return lambda: world.move_clock(max(timedelta(0), moment - world.clock.now()))

    await driver.inflict_upon(
        move_to(reminding_on(plan.opening)), [fault for fault in plan.evening if fault.kind == "kill-at"]
    )
    await world.settled()
    due = [fault for fault in plan.evening if fault.kind == "due-in-outage"]
    await driver.inflict_upon(move_to(plan.opening + EVENING), due)
    await world.settled()
    await asyncio.gather(clients.document(), *(driver.inflict(fault) for fault in plan.documenting))
    await world.settled()
    world.stop_clock()
    for service in SERVICES:
        await eventually(partial(_nothing_due, world, service), within=world.patience_s, what="due timers are run")
    await world.settled()


async def _nothing_due(world: World, service: Service) -> bool:
    async with world.connect(service) as connection:
        due = await connection.fetchval(TIMERS_DUE, world.clock.now())
    assert due == 0, f"{due} timers are due"
    return True


def reminding_on(opening: datetime) -> datetime:
    """When some of the day's reminders are due, and some are not yet."""
    return datetime.combine(opening.date(), REMINDING)


def today() -> date:
    return datetime.now(UTC).date()
