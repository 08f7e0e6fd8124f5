"""Due timers, claimed and handled: what a service does while it has nothing else to do.

python -m tests.bench.timers     the one contestant; what it measured, as a line of JSON
"""

import gc
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import uvloop

from shared.clock import monotonic, wall_now
from shared.database import Connection, open_database
from shared.events import MemberResumed
from shared.events.members import MemberResumedData
from shared.outcomes import Cause, Outcomes, Timer
from shared.settings import ServiceSettings
from shared.suspect_timers import Caution
from shared.timers import run_timers, save_timers
from tests.bench.profiles import describe_profile
from tests.bench.stage import Stage, new_namespace, program

KIND = "bench.due"
FILL = 5_000
CAUSE = Cause("urn:bench:app", "b1", "c1")


async def contest(stage: Stage) -> dict[str, Any]:
    profile = Path("build/bench-timers.txt")
    measured = [await _measure(stage) for _ in range(stage.rounds)]
    await _measure(stage, profile)
    middle = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
    return {
        "name": "timers",
        "unit": "timers/s",
        "ours": round(middle["per_s"]),
        "beside": {"that_publish": round(middle["publishing_per_s"])},
        "mark": 20_000,
        "ours_cpu_us": round(middle["cpu_us"], 1),
        "limited_by": f"one transaction at a time; the thread is busy {middle['per_s'] * middle['cpu_us'] / 1e6:.0%}",
        "profile": str(profile),
    }


async def _measure(stage: Stage, profile: Path | None = None) -> dict[str, float]:
    environment = stage.environment(new_namespace(), await stage.database(), BENCH_RECORDS=str(stage.records))
    async with program("tests.bench.timers", environment) as process:
        with describe_profile(process.pid, profile) if profile else nullcontext():
            said, _ = await process.communicate()
    measured: dict[str, float] = json.loads(said)
    return measured


async def note(connection: Connection, timers: Sequence[Timer], *, now: datetime) -> Outcomes:
    return Outcomes()


async def tell(connection: Connection, timers: Sequence[Timer], *, now: datetime) -> Outcomes:
    outcomes = Outcomes()
    for timer in timers:
        outcomes.publish(MemberResumed, MemberResumedData(reason="well"), because=timer)
    return outcomes


async def nothing_waits(
    connection: Connection, member_ids: Sequence[UUID], now: datetime, *, with_care: bool = False
) -> int:
    return 0


async def main() -> None:
    settings, count = ServiceSettings(), int(os.environ["BENCH_RECORDS"])
    database = await open_database(settings.database_url.get_secret_value(), connections=2, application="bench timers")
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    me, found = psutil.Process(), {}
    for name, handler in (("per_s", note), ("publishing_per_s", tell)):
        due = wall_now() - timedelta(minutes=1)
        for start in range(0, count, FILL):
            timers = [
                Timer(kind=KIND, key=str(n), member_id=UUID(int=n), due_at=due, cause=CAUSE)
                for n in range(start, min(count, start + FILL))
            ]
            async with database.acquire() as connection:
                await save_timers(connection, timers)
        await database.execute("vacuum analyze delivery.timers")
        began, spent, run, caution = monotonic(), sum(me.cpu_times()[:2]), 0, Caution()
        while run < count:
            async with database.acquire() as connection, connection.transaction():
                done = await run_timers(
                    connection,
                    {KIND: handler},
                    service="bench",
                    now=wall_now(),
                    settle_waiting=nothing_waits,
                    caution=caution,
                )
            run += done.run
        found[name] = count / (monotonic() - began)
        found.setdefault("cpu_us", (sum(me.cpu_times()[:2]) - spent) / count * 1e6)
    await database.close()
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main())
