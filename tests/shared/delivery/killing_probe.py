"""The probe, but an event with a score of 6 ends its process, as a crash in native code or a lack of memory would."""

import os
import signal
from collections.abc import Sequence
from datetime import datetime

from shared.database import Connection
from shared.events import PainReported
from shared.outcomes import Outcomes
from shared.service import run
from shared.settings import ServiceSettings
from tests.shared.delivery.probe import build, follow_activity


async def die_of_six(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
    if any(event.data.score == 6 for event in events):
        os.kill(os.getpid(), signal.SIGKILL)
    return await follow_activity(connection, events, now=now)


if __name__ == "__main__":
    run(build(ServiceSettings(), activity=die_of_six))
