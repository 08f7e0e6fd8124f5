"""The probe, but what begins by itself ends its process: an event with a score of 6 once it no longer stands behind
another, one with a score of 8 once it has what it waits for, and a timer whose key is `guilty`."""

import os
import signal
from collections.abc import Sequence
from datetime import datetime

from shared.database import Connection
from shared.events import PainReported
from shared.outcomes import Outcomes, Timer
from shared.service import run
from shared.settings import ServiceSettings
from tests.shared.delivery.probe import build, follow_activity


async def die_of_some(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
    outcomes = await follow_activity(connection, events, now=now)
    waiting = {event.subject for event in events if (event.source, event.id) in outcomes.waiting}
    if any(event.data.score in (6, 8) for event in events if event.subject not in waiting):
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes


async def die_of_guilty(_connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    if any(timer.key == "guilty" for timer in timers):
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcomes()


if __name__ == "__main__":
    service = build(ServiceSettings(), activity=die_of_some)
    service.timers = {"killer": die_of_guilty}
    run(service)
