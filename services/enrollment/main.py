"""Enrollment as a process: wires its routes, timers and roster tasks."""

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID

from prometheus_client import Gauge

from services.enrollment.api import ROUTERS
from services.enrollment.handlers.apply_roster import apply_roster
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store.answers import forget_answers
from services.enrollment.store.imports import (
    APPLY_TIMEOUT_S,
    RosterImport,
    count_held,
    count_unapplied,
    give_up_abandoned,
    take_received,
)
from services.enrollment.store.memberships import count_unplaced
from services.enrollment.subscriptions import SUBSCRIPTIONS, TIMERS
from shared.backoff import Backoff
from shared.database import Connection, is_transient
from shared.service import Pending, Service, Task, run
from shared.telemetry import BUGS, describe_bug, logger

ROSTER_TICK_S: Final = 0.5
"""How often a received roster is looked for, in machine time."""
ROSTER_AGAIN_S: Final = 1.0
ROSTER_AGAIN_MAX_S: Final = 300.0
"""Until a file that failed is tried again, longer each time: in machine time."""
TIDY_TICK_S: Final = 600.0
WATCH_TICK_S: Final = 5.0
UNPLACED = Gauge("careloop_enrollment_unplaced", "People without a care team that can have them.", ["why"])
HELD_ROSTERS = Gauge("careloop_enrollment_held_rosters", "Roster files that wait to be confirmed or discarded.")
log = logger("enrollment")


def build(settings: EnrollmentSettings) -> Service:
    async def apply_rosters(service: Service) -> None:
        failing: Backoff[UUID] = Backoff(first_s=ROSTER_AGAIN_S, most_s=ROSTER_AGAIN_MAX_S)
        while True:
            if not await _apply_next(service, settings, failing):
                await asyncio.sleep(ROSTER_TICK_S)

    async def tidy(service: Service) -> None:
        while True:
            async with service.database.acquire(timeout=30) as connection, connection.transaction():
                now = service.clock.now()
                await forget_answers(connection, now=now)
                await give_up_abandoned(connection, older_s=2 * APPLY_TIMEOUT_S, now=now)
            await asyncio.sleep(TIDY_TICK_S)

    async def watch(service: Service) -> None:
        """What an operator must act on, as numbers to alarm on."""
        while True:
            async with service.database.acquire(timeout=30) as connection:
                waiting, not_moved = await count_unplaced(connection)
                HELD_ROSTERS.set(await count_held(connection))
            UNPLACED.labels("waitlisted").set(waiting)
            UNPLACED.labels("not-moved").set(not_moved)
            await asyncio.sleep(WATCH_TICK_S)

    async def count_rosters(connection: Connection, now: datetime) -> int:
        return await count_unapplied(connection)

    return Service(
        name="enrollment",
        settings=settings,
        subscriptions=SUBSCRIPTIONS,
        timers=TIMERS,
        routers=ROUTERS,
        tasks=[Task("rosters", apply_rosters), Task("tidying", tidy), Task("watch", watch)],
        pending=[Pending("rosters", count_rosters)],
    )


async def _apply_next(service: Service, settings: EnrollmentSettings, failing: Backoff[UUID]) -> bool:
    """Apply the oldest received file that may be applied; whether there was one. Where it fails, whatever it fails
    with, its sponsor's files wait and nobody else's do."""
    taken: RosterImport | None = None
    async with service.database.acquire(timeout=30) as connection:
        try:
            async with connection.transaction():
                taken = await take_received(connection, but=failing.waiting())
                if taken is None:
                    return False
                await apply_roster(connection, taken, guard=settings.import_guard, now=service.clock.now())
        except Exception as error:
            if taken is None:
                raise
            if not is_transient(error):
                BUGS.labels("rosters").inc()
            delay = failing.fail(taken.sponsor_id)
            log.error("a roster file is tried again", file=taken.import_id, error=describe_bug(error), in_s=delay)
        else:
            failing.succeed(taken.sponsor_id)
    return True


if __name__ == "__main__":
    run(build(EnrollmentSettings()))
