"""What time does to a service: its memory under steady load, and a backlog that must not starve what comes now."""

import asyncio
import os
import statistics
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psutil
from aiokafka import AIOKafkaProducer

from shared.clock import monotonic
from shared.events.codec import HEADERS
from shared.partitioning import partition_of
from tests.bench.clinic import Clinic, make_coach, open_clinic
from tests.bench.consuming import LIMIT_S, OURS
from tests.bench.job import TOPIC
from tests.bench.profiles import describe_profile
from tests.bench.sessions import PARTITIONS, make_members, make_topic, session
from tests.bench.stage import Stage, new_namespace, program

SOAK_S = float(os.environ.get("SOAK_S", "60"))
SOAK_RATE = 200
PROFILE_S = 10.0
"""How long it goes on when the memory was measured, for the profile."""
BURST = 60_000
"""Sessions published as fast as they go, after all that: what a service holds while it is behind."""
WARM = 0.25
"""Part of the run after which memory should no longer grow."""
BEHIND = PARTITIONS // 2
"""Partitions that hold the backlog; the others are live."""
LIVE_RATE = 50
LIVE_AFTER_S = 5.0
COMMITTED = "select partition, next_offset from delivery.positions where partition >= $1"
LEFT = "select coalesce(sum(records_read), 0)::int from delivery.positions where partition < $1"


async def soak(stage: Stage) -> dict[str, Any]:
    """Plans and messaging at a steady rate: resident memory after a quarter of the time, and at the end; then the most
    that each holds while it is behind."""
    members = [uuid4() for _ in range(1_000)]
    async with open_clinic(stage) as clinic:
        await clinic.enrol(members, coach=make_coach())
        await clinic.settled()
        seen: dict[str, list[float]] = {service: [] for service in clinic.pids}
        number = await _load(clinic, members, seconds=SOAK_S, seen=seen)
        profile = Path("build/bench-memory.txt")
        with describe_profile(clinic.pids["messaging"], profile):
            after = await _load(clinic, members, seconds=PROFILE_S, first=number, seen={})
        behind = await _fall_behind(clinic, members, first=after)
    beside: dict[str, int] = {}
    for service, samples in seen.items():
        beside[f"{service}_warm"] = round(samples[int(len(samples) * WARM)])
        beside[f"{service}_end"] = round(samples[-1])
        beside[f"{service}_behind"] = round(behind[service])
    most = max(max(samples) for samples in seen.values())
    return {
        "name": "memory",
        "unit": "MB",
        "ours": round(most),
        "memory_mb": round(most),
        "beside": beside,
        "mark": 200,
        "seconds": SOAK_S,
        "limited_by": f"{number:,} sessions in {SOAK_S:.0f} s, then {BURST:,} at once; SOAK_S=600 for ten minutes",
        "profile": str(profile),
    }


async def _load(
    clinic: Clinic, members: Sequence[UUID], *, seconds: float, seen: dict[str, list[float]], first: int = 0
) -> int:
    """Publish at the steady rate and note what each service in `seen` holds (MB); the number of the next session."""
    began, number = monotonic(), first
    while (passed := monotonic() - began) < seconds:
        while number - first < passed * SOAK_RATE:
            member = members[number % len(members)]
            value = session(member, number, datetime.now(UTC), exercises=2, pain=3)
            await clinic.send(TOPIC, member, value)
            number += 1
        for service, samples in seen.items():
            samples.append(_held_mb(clinic, service))
        await asyncio.sleep(0.2)
    return number


def _held_mb(clinic: Clinic, service: str) -> float:
    return float(psutil.Process(clinic.pids[service]).memory_info().rss / 1e6)


async def _fall_behind(clinic: Clinic, members: Sequence[UUID], *, first: int) -> dict[str, float]:
    """Publish a burst and note the most that each service holds until both have taken it (MB)."""
    most = dict.fromkeys(clinic.pids, 0.0)

    async def sample() -> None:
        while True:
            most.update({service: max(held, _held_mb(clinic, service)) for service, held in most.items()})
            await asyncio.sleep(0.2)

    sampling = asyncio.create_task(sample())
    for number in range(first, first + BURST):
        member = members[number % len(members)]
        await clinic.send(TOPIC, member, session(member, number, datetime.now(UTC), exercises=2, pain=3))
    await clinic.settled()
    sampling.cancel()
    return most


async def drain(stage: Stage) -> dict[str, Any]:
    """Half of the partitions hold a backlog; events on the others are timed from the send to the commit meanwhile, and
    as long again when nothing is behind."""
    profile = Path("build/bench-backlog.txt")
    drained = await _drain(stage)
    await _drain(stage, profile)
    return {
        "name": "backlog",
        "unit": "records/s",
        "ours": round(drained.per_s),
        "beside": {
            "live_p50_ms": round(statistics.median(drained.live)),
            "live_most_ms": round(max(drained.live)),
            "live_p50_ms_when_drained": round(statistics.median(drained.live_later)),
        },
        "limited_by": f"{BEHIND} of {PARTITIONS} partitions are behind; {LIVE_RATE} live events a second on the others",
        "profile": str(profile),
    }


@dataclass(frozen=True)
class _Drained:
    per_s: float
    live: list[float]
    """Milliseconds of each live event while the backlog was taken."""
    live_later: list[float]


async def _drain(stage: Stage, profile: Path | None = None) -> _Drained:
    namespace, url = new_namespace(), await stage.database()
    topic = await make_topic(stage.servers.kafka_bootstrap, namespace)
    behind: list[UUID] = []
    live: list[UUID] = []
    for member in make_members():
        (behind if partition_of(member, PARTITIONS) < BEHIND else live).append(member)
    async with AIOKafkaProducer(bootstrap_servers=stage.servers.kafka_bootstrap, acks="all") as producer:

        async def send(member: UUID, number: int) -> Any:
            value = session(member, number, datetime.now(UTC), exercises=1, pain=number % 5)
            return await producer.send(topic, value=value, key=str(member).encode(), headers=list(HEADERS))

        for number in range(stage.records):
            await send(behind[number % len(behind)], number)
        await producer.flush()
        watch = await asyncpg.connect(url)
        environment = stage.environment(namespace, url, BENCH_JOB="consume", BENCH_SERVICE="bench")
        async with program(OURS, environment) as process:
            sampling = ExitStack()
            timing = _Timing(watch)
            number, drained_s, read, first, began = stage.records, 0.0, 0, 0, monotonic()
            busy: list[float] = []
            until, start = began + LIMIT_S, began
            while monotonic() < until:
                read = await watch.fetchval(LEFT, BEHIND)
                if read and not first:
                    first, start, number = read, monotonic(), stage.records
                    if profile is not None:
                        sampling.enter_context(describe_profile(process.pid, profile))
                if first and number - stage.records < (monotonic() - start) * LIVE_RATE:
                    timing.sent(await (await send(live[number % len(live)], number)))
                    number += 1
                await timing.look()
                if read >= stage.records and not drained_s:
                    drained_s, busy, timing.took = monotonic() - start, timing.took, []
                    sampling.close()
                    until = monotonic() + LIVE_AFTER_S
                await asyncio.sleep(0.002)
        await watch.close()
    if not drained_s or len(busy) < 2:
        raise RuntimeError(f"{read} of {stage.records} were read, {len(busy)} live events came through")
    return _Drained((stage.records - first) / drained_s, busy, timing.took)


class _Timing:
    """Live events from their acknowledgement to the commit that takes them."""

    def __init__(self, watch: "asyncpg.Connection[Any]") -> None:
        self._watch = watch
        self._sent: dict[int, deque[tuple[int, float]]] = {}
        self.took: list[float] = []

    def sent(self, place: Any) -> None:
        self._sent.setdefault(place.partition, deque()).append((place.offset, monotonic()))

    async def look(self) -> None:
        for partition, end in await self._watch.fetch(COMMITTED, BEHIND):
            waiting = self._sent.get(partition, deque())
            while waiting and waiting[0][0] < end:
                self.took.append((monotonic() - waiting.popleft()[1]) * 1000)
