"""From the moment an app publishes a session until the alert that it raises is at a coach's window."""

import asyncio
import os
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson
import psutil

from shared.clock import monotonic
from tests.bench.clinic import Clinic, make_coach, open_clinic
from tests.bench.job import TOPIC
from tests.bench.profiles import describe_profile
from tests.bench.sessions import session
from tests.bench.stage import Stage

RATE = int(os.environ.get("RATE", "500"))
SECONDS = 20
WARM_S = 45
"""Before it counts: a broker that has just started still compiles itself. The profile is of this time."""
EVERY = 25
"""One session in so many hurts enough for an alert; its member has no other."""
QUIET = 1_000
TICK_S = 0.01
WAIT_S = 30.0


class Round(NamedTuple):
    p50_ms: float
    p99_ms: float
    seconds: float
    spent: dict[str, float]
    """Processor seconds, by who spent them."""


async def contest(stage: Stage) -> dict[str, Any]:
    """p50 and p99 over the alerts of each round; of the rounds the medians."""
    rounds: list[Round] = []
    profile = Path("build/bench-latency.txt")
    async with open_clinic(stage) as clinic:
        coach, other = make_coach(), make_coach()
        quiet, warming = [uuid4() for _ in range(QUIET)], [uuid4() for _ in range(RATE * WARM_S // EVERY)]
        hurting = [[uuid4() for _ in range(RATE * SECONDS // EVERY)] for _ in range(stage.rounds)]
        await clinic.enrol([member for members in hurting for member in members], coach=coach)
        await clinic.enrol([*quiet, *warming], coach=other)
        await clinic.settled()
        with describe_profile(clinic.pids["messaging"], profile):
            await _publish(clinic, warming, quiet, seconds=WARM_S, first=0)
        await clinic.settled()
        await stage.rest()
        for number, members in enumerate(hurting):
            await clinic.settled()
            first = RATE * (WARM_S + number * SECONDS)
            rounds.append(await _round(stage, clinic, coach.practitioner_id, members, quiet, first=first))
    p50, p99 = (round(statistics.median(found), 1) for found in zip(*(one[:2] for one in rounds), strict=True))
    seconds, sessions = sum(one.seconds for one in rounds), len(rounds) * RATE * SECONDS
    cpu = {name: sum(one.spent[name] for one in rounds) for name in rounds[0].spent}
    each = [f"{one.p50_ms:.1f} / {one.p99_ms:.1f}" for one in rounds]
    return {
        "name": "latency",
        "unit": "ms p50",
        "ours": p50,
        "p50_ms": p50,
        "p99_ms": p99,
        "rounds": [{"p50_ms": round(one.p50_ms, 1), "p99_ms": round(one.p99_ms, 1)} for one in rounds],
        "beside": {"p99_ms": p99, "events_per_s": RATE},
        "mark": "20 / 80",
        "cpu_s_per_million": round(sum(used for name, used in cpu.items() if name != "apps") / sessions * 1e6),
        "limited_by": "five hops (broker, plans, relay, messaging, feed); of one processor "
        + ", ".join(f"{name} {used / seconds:.0%}" for name, used in cpu.items())
        + f"; p50 / p99 of each round: {', '.join(each)}",
        "profile": str(profile),
    }


async def _round(
    stage: Stage, clinic: Clinic, coach: UUID, hurting: Sequence[UUID], quiet: Sequence[UUID], *, first: int
) -> Round:
    """Sessions for `SECONDS`, and every alert that they raise."""
    # What the kernel would write to the disk half a minute after it came, in the middle of what counts.
    await stage.write_back()
    seen: dict[UUID, float] = {}
    opened = asyncio.Event()
    listening = asyncio.create_task(_listen(clinic, coach, seen, opened, until=len(hurting)))
    await asyncio.wait_for(opened.wait(), WAIT_S)
    began, before, servers = monotonic(), _spent(clinic), stage.processor_s()
    sent = await _publish(clinic, hurting, quiet, seconds=SECONDS, first=first)
    await asyncio.wait([listening], timeout=WAIT_S)
    seconds = monotonic() - began
    spent = {name: used - before[name] for name, used in _spent(clinic).items()}
    spent["servers"] = stage.processor_s() - servers
    listening.cancel()
    await asyncio.wait([listening])
    if len(seen) < len(hurting):
        raise RuntimeError(f"{len(seen)} of {len(hurting)} alerts came")
    took = sorted((seen[member] - sent[member]) * 1000 for member in hurting)
    return Round(statistics.median(took), took[int(len(took) * 0.99) - 1], seconds, spent)


def _spent(clinic: Clinic) -> dict[str, float]:
    """Processor seconds of each service, and of this process: the apps and the window."""
    pids = {**clinic.pids, "apps": os.getpid()}
    return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


async def _publish(
    clinic: Clinic, hurting: Sequence[UUID], quiet: Sequence[UUID], *, seconds: int, first: int
) -> dict[UUID, float]:
    """At an even rate, whatever comes of it; when each session that hurts was handed to the client. `first`: number of
    the first session. They are made before, as they are in apps and not in the process that hands them over."""
    sent: dict[UUID, float] = {}
    sessions, start = list[tuple[UUID, bytes, bool]](), datetime.now(UTC)
    for number in range(RATE * seconds):
        hurts = number % EVERY == 0
        member = hurting[number // EVERY] if hurts else quiet[number % len(quiet)]
        at = start + timedelta(seconds=number / RATE)
        sessions.append((member, session(member, first + number, at, exercises=1, pain=9 if hurts else 3), hurts))
    began, number = monotonic(), 0
    while number < len(sessions):
        while number < min(len(sessions), (monotonic() - began) * RATE):
            member, value, hurts = sessions[number]
            if hurts:
                sent[member] = monotonic()
            await clinic.send(TOPIC, member, value)
            number += 1
        await asyncio.sleep(TICK_S)
    return sent


async def _listen(clinic: Clinic, coach: UUID, seen: dict[UUID, float], opened: asyncio.Event, *, until: int) -> None:
    """Note when each member's alert comes, until there are as many. A window that has `opened` shows what changes from
    then on."""
    headers = {"Host": "127.0.0.1", **clinic.tokens.bearer(clinic.tokens.coach(coach))}
    asks = ["GET /v1/feed HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    reader, writer = await asyncio.open_connection("127.0.0.1", clinic.ports["messaging"])
    try:
        writer.write("\r\n".join(asks).encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"the feed answers {status!r}")
        async for line in reader:
            if line.startswith(b"event: ready"):
                opened.set()
            elif line.startswith(b"data: {"):
                entry = orjson.loads(line[6:])
                if entry["kind"] == "alert" and entry["change"] == "raised":
                    seen.setdefault(UUID(entry["member_id"]), monotonic())
                    if len(seen) == until:
                        return
    finally:
        writer.close()
