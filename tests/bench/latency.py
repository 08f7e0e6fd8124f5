"""From the moment an app publishes a session until the alert that it raises is at a coach's window."""

import asyncio
import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

import orjson
import psutil

from shared.clock import monotonic
from shared.events.vocabulary import Practitioner
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
BESIDE = os.environ.get("BESIDE")
"""Folder of another checkout, such as the commit before: its services take turns with ours, round for round on the same
servers, as what an hour does to a machine is more than what is compared."""


class Round(NamedTuple):
    p50_ms: float
    p99_ms: float
    seconds: float
    spent: dict[str, float]
    """Processor seconds, by who spent them."""


@dataclass
class _Contestant:
    clinic: Clinic
    coach: Practitioner
    quiet: list[UUID]
    warming: list[UUID]
    hurting: list[list[UUID]]
    """Members with an alert, by round."""
    rounds: list[Round] = field(default_factory=list)

    @classmethod
    async def enter(cls, clinic: Clinic, rounds: int) -> Self:
        coach, other = make_coach(), make_coach()
        quiet, warming = [uuid4() for _ in range(QUIET)], [uuid4() for _ in range(RATE * WARM_S // EVERY)]
        hurting = [[uuid4() for _ in range(RATE * SECONDS // EVERY)] for _ in range(rounds)]
        await clinic.enrol([member for members in hurting for member in members], coach=coach)
        await clinic.enrol([*quiet, *warming], coach=other)
        await clinic.settled()
        return cls(clinic, coach, quiet, warming, hurting)

    def median(self) -> tuple[float, float]:
        """p50 and p99, each the median over the rounds."""
        p50, p99 = (round(statistics.median(found), 1) for found in zip(*(one[:2] for one in self.rounds), strict=True))
        return p50, p99

    def spent(self) -> dict[str, float]:
        """Processor seconds, by who spent them."""
        return {name: sum(one.spent[name] for one in self.rounds) for name in self.rounds[0].spent}


async def contest(stage: Stage) -> dict[str, Any]:
    """p50 and p99 over the alerts of each round; of the rounds the medians."""
    profile = Path("build/bench-latency.txt")
    async with AsyncExitStack() as stack:
        folders = [None, *([Path(BESIDE)] if BESIDE else [])]
        clinics = [await stack.enter_async_context(open_clinic(stage, folder)) for folder in folders]
        contestants = [await _Contestant.enter(clinic, stage.more_rounds) for clinic in clinics]
        for one in contestants:
            with describe_profile(one.clinic.pids["messaging"], profile) if one is contestants[0] else nullcontext():
                await _publish(one.clinic, one.warming, one.quiet, seconds=WARM_S, first=0)
            await one.clinic.settled()
        await stage.rest()
        for number in range(stage.more_rounds):
            first = RATE * (WARM_S + number * SECONDS)
            for one in contestants if number % 2 == 0 else reversed(contestants):
                await one.clinic.settled()
                members = one.hurting[number]
                one.rounds.append(
                    await _round(stage, one.clinic, one.coach.practitioner_id, members, one.quiet, first=first)
                )
    return {**_row(contestants[0], stage), "profile": str(profile), **_beside(contestants)}


def _row(ours: _Contestant, stage: Stage) -> dict[str, Any]:
    (p50, p99), cpu = ours.median(), ours.spent()
    seconds, sessions = sum(one.seconds for one in ours.rounds), stage.more_rounds * RATE * SECONDS
    each = [f"{one.p50_ms:.1f} / {one.p99_ms:.1f}" for one in ours.rounds]
    return {
        "name": "latency",
        "unit": "ms p50",
        "ours": p50,
        "p50_ms": p50,
        "p99_ms": p99,
        "rounds": [{"p50_ms": round(one.p50_ms, 1), "p99_ms": round(one.p99_ms, 1)} for one in ours.rounds],
        "beside": {"p99_ms": p99, "events_per_s": RATE},
        "mark": "20 / 80",
        "cpu_s_per_million": round(_of_all(cpu) / sessions * 1e6),
        "limited_by": "five hops (broker, plans, relay, messaging, feed); of one processor "
        + ", ".join(f"{name} {used / seconds:.0%}" for name, used in cpu.items())
        + f"; p50 / p99 of each round: {', '.join(each)}",
    }


def _beside(contestants: Sequence[_Contestant]) -> dict[str, Any]:
    """How the other checkout did, and ours against it, as medians of the ratios of the rounds; nothing without one."""
    ours, *others = contestants
    if not others:
        return {}
    (other,) = others
    p50, p99 = other.median()
    pairs = list(zip(ours.rounds, other.rounds, strict=True))
    ratio = statistics.median(one.p50_ms / beside.p50_ms for one, beside in pairs)
    spent = statistics.median(_of_all(one.spent) / _of_all(beside.spent) for one, beside in pairs)
    return {
        "beside": {"p99_ms": ours.median()[1], "events_per_s": RATE, "beside_p50_ms": p50, "beside_p99_ms": p99},
        "ratio": round(ratio, 2),
        "ratio_of_processor_time": round(spent, 2),
    }


def _of_all(spent: Mapping[str, float]) -> float:
    """Processor seconds without those of the apps."""
    return sum(used for name, used in spent.items() if name != "apps")


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
