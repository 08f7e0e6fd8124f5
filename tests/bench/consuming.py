"""From a topic into the database: our consume path beside loops written by hand, in turn, and what limits each."""

import asyncio
import statistics
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psutil
from rich.console import Console

from shared.clock import monotonic
from tests.bench.processors import one_for_the_worker, starting_on
from tests.bench.profiles import describe_profile, share_of
from tests.bench.sessions import Kind, Log
from tests.bench.stage import Stage, enroll, program
from tests.bench.streams import IS_WANTED, measure_streams

OURS, LOOP, MESSAGE = "tests.bench.ours", "tests.bench.loop", "tests.bench.per_message"
SHARE = {OURS: 1.0, LOOP: 1.0, MESSAGE: 0.04}
"""Part of the topic that a contestant reads: the slow one needs fewer records for as long a run."""
LIMIT_S = 240.0
BUSY = 0.75
"""Of one processor: a process that uses more has no time left for more."""
KINDS: dict[str, Kind] = {"consume": "light", "consume_rules": "rules"}
MARKS = {"consume": "1.4 loop\n50 message", "consume_rules": "1.1 loop\n25 message"}
READ = "select coalesce(sum(records_read), 0)::int from delivery.positions"
Who = TypeVar("Who")
console = Console(stderr=True)


@dataclass(frozen=True)
class Measured:
    """One run of one contestant, between its first and its last commit."""

    records_per_s: float
    worker_us: float
    """Processor microseconds of the contestant's processes for each record."""
    servers_us: float
    """Of PostgreSQL and Kafka."""
    busy: float
    """Of the machine's processors while it ran, 0 to 1."""
    memory_mb: float


async def measure(
    stage: Stage, log: Log, module: str, job: str, *, records: int, processes: int = 1, profile: Path | None = None
) -> Measured:
    service = "plans" if job == "consume_rules" else "bench"
    url = await stage.database(service)
    if service == "plans":
        await enroll(url, log.members)
    environment = stage.environment(log.namespace, url, BENCH_JOB=job, BENCH_SERVICE=service)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stage.drop, url)  # or it would be vacuumed beside what is timed next
        watch = await asyncpg.connect(url)
        stack.push_async_callback(watch.close)
        gate = await asyncpg.connect(url)
        stack.push_async_callback(gate.close)
        if processes > 1:  # all begin at once, when the group has come to rest
            await gate.execute("begin; lock table delivery.positions in access exclusive mode")
        own = stack.enter_context(one_for_the_worker(stage.server_pids)) if processes == 1 else set()
        with starting_on(own):
            started = [await stack.enter_async_context(program(module, environment)) for _ in range(processes)]
        if processes > 1:
            await _wait_for_group(watch, processes)
            await gate.execute("commit")
        return await _watch(stage, watch, started, records, profile)


async def _watch(
    stage: Stage,
    watch: "asyncpg.Connection[Any]",
    started: list[asyncio.subprocess.Process],
    records: int,
    profile: Path | None,
) -> Measured:
    began, first, at, spent, servers = monotonic(), 0, 0.0, 0.0, 0.0
    workers = [psutil.Process(process.pid) for process in started]
    sampling = ExitStack()
    while True:
        read: int = await watch.fetchval(READ)
        if any(process.returncode is not None for process in started):
            raise RuntimeError("a contestant ended")
        if read and not first:
            first, at, spent, servers = read, monotonic(), _spent(workers), stage.processor_s()
            psutil.cpu_percent()
            if profile is not None:
                sampling.enter_context(describe_profile(workers[0].pid, profile))
        if read >= records:
            break
        if monotonic() - began > LIMIT_S:
            raise RuntimeError(f"{read} of {records} records in {LIMIT_S:.0f} s")
        await asyncio.sleep(0.01)
    seconds, taken = monotonic() - at, read - first
    sampling.close()
    return Measured(
        taken / seconds,
        (_spent(workers) - spent) / taken * 1e6,
        (stage.processor_s() - servers) / taken * 1e6,
        psutil.cpu_percent() / 100,
        sum(worker.memory_info().rss for worker in workers) / 1e6,
    )


async def _wait_for_group(watch: "asyncpg.Connection[Any]", processes: int) -> None:
    """Until every process has waited for the gate for as long as a group takes to come to rest."""
    steady = 0
    while steady < 50:
        waiting = await watch.fetchval("select count(*) from pg_locks where not granted and relation is not null")
        steady = steady + 1 if waiting >= processes else 0
        await asyncio.sleep(0.1)


def _spent(workers: list[psutil.Process]) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


async def contest(stage: Stage, job: str) -> dict[str, Any]:
    """Every contestant once a round, in turn, so that a machine that drifts drifts for all."""
    log = await stage.log(KINDS[job])
    results: dict[str, list[Measured]] = {OURS: [], LOOP: [], MESSAGE: []}
    streams: list[tuple[float, float]] = []
    for number in range(stage.more_rounds):
        for module, measured in _in_turn(results, number):
            console.print(f"{job}: round {number + 1} of {stage.more_rounds}, {module.rsplit('.', 1)[1]}", style="dim")
            measured.append(await measure(stage, log, module, job, records=int(log.records * SHARE[module])))
        if IS_WANTED and job == "consume":
            console.print(f"{job}: round {number + 1} of {stage.more_rounds}, Kafka Streams", style="dim")
            streams.append(await measure_streams(stage, log))
    profile = Path(f"build/bench-{job}.txt")
    await measure(stage, log, OURS, job, records=log.records, profile=profile)

    def middle(module: str, field: str = "records_per_s") -> float:
        return float(statistics.median(getattr(measured, field) for measured in results[module]))

    def ratios(module: str) -> list[float]:
        pairs = zip(results[OURS], results[module], strict=True)
        return [ours.records_per_s / theirs.records_per_s for ours, theirs in pairs]

    row: dict[str, Any] = {
        "name": job,
        "unit": "records/s",
        "ours": round(middle(OURS)),
        "beside": {"batch_loop": round(middle(LOOP)), "message_transaction": round(middle(MESSAGE))},
        "mark": MARKS[job],
        "ratio_to_batch_loop": round(statistics.median(ratios(LOOP)), 2),
        "ratio_to_message_transaction": round(statistics.median(ratios(MESSAGE)), 1),
        "ratios_of_rounds": {
            "batch_loop": [round(one, 2) for one in ratios(LOOP)],
            "message_transaction": [round(one, 1) for one in ratios(MESSAGE)],
        },
        "ours_cpu_us": round(middle(OURS, "worker_us"), 1),
        "batch_loop_cpu_us": round(middle(LOOP, "worker_us"), 1),
        "cpu_s_per_million": round(middle(OURS, "worker_us") + middle(OURS, "servers_us")),
        "memory_mb": round(middle(OURS, "memory_mb")),
        "limited_by": limit_of(middle(OURS) * middle(OURS, "worker_us") / 1e6, middle(OURS, "busy")),
        "profile": str(profile),
    }
    if streams:
        rate, spent = (statistics.median(one[place] for one in streams) for place in (0, 1))
        row["beside"] |= {"kafka_streams": round(rate)}
        row |= {"ratio_to_kafka_streams": round(middle(OURS) / rate, 2), "kafka_streams_cpu_us": round(spent, 1)}
    if job == "consume_rules":
        rules, handler = share_of(profile, "services/plans/domain/"), share_of(profile, "services/plans/")
        row |= {"share_of_rules": rules, "share_of_handler": handler}
        if rules is not None and handler is not None:
            row["limited_by"] += f"; {rules:.0%} of it rules, {handler:.0%} with loading and saving"
    return row


def _in_turn(results: dict[Who, list[Measured]], number: int) -> list[tuple[Who, list[Measured]]]:
    """Each second round the other way round: whoever comes behind another finds the machine as that one left it."""
    return list(results.items()) if number % 2 == 0 else list(reversed(results.items()))


def limit_of(worker: float, machine: float) -> str:
    """`worker`: processors that it used; `machine`: the part of all processors that was in use, by whomever."""
    if worker >= BUSY:
        return f"one Python thread, busy {worker:.0%}"
    if machine >= BUSY:
        return f"the machine: its processors were busy {machine:.0%}, the worker got {worker:.0%} of one"
    return f"waiting: the worker was busy {worker:.0%}, the machine {machine:.0%}"


async def skew(stage: Stage) -> dict[str, Any]:
    """The light job over a topic with a hot member and repeats in one batch, beside the even one: the hot
    member's partition is alone at the end, and one pause of the database then decides a round."""
    results: dict[Kind, list[Measured]] = {"skewed": [], "light": []}
    for number in range(stage.more_rounds):
        for kind, measured in _in_turn(results, number):
            console.print(f"consume_skewed: round {number + 1} of {stage.more_rounds}, {kind}", style="dim")
            log = await stage.log(kind)
            measured.append(await measure(stage, log, OURS, "consume", records=log.records))
    profile, log = Path("build/bench-consume_skewed.txt"), await stage.log("skewed")
    await measure(stage, log, OURS, "consume", records=log.records, profile=profile)
    pairs = zip(results["skewed"], results["light"], strict=True)
    ratios = [one.records_per_s / other.records_per_s for one, other in pairs]
    skewed, even = (statistics.median(one.records_per_s for one in results[kind]) for kind in ("skewed", "light"))
    return {
        "name": "consume_skewed",
        "unit": "records/s",
        "ours": round(skewed),
        "beside": {"even": round(even)},
        "ratio": round(statistics.median(ratios), 2),
        "ratios_of_rounds": {"even": [round(one, 2) for one in ratios]},
        "mark": 0.8,
        "limited_by": "the hot member's partition: its last chunks have nobody beside them",
        "profile": str(profile),
    }


async def scale(stage: Stage) -> dict[str, Any]:
    """The light job with more processes of one consumer group."""
    log, row = await stage.log("light"), {"name": "scaling", "unit": "records/s"}
    results: dict[int, list[Measured]] = {1: [], 2: [], 4: []}
    for number in range(stage.rounds):
        for processes, measured in results.items():
            console.print(f"scaling: round {number + 1} of {stage.rounds}, {processes} processes", style="dim")
            measured.append(await measure(stage, log, OURS, "consume", records=log.records, processes=processes))
    profile = Path("build/bench-scaling.txt")  # of one of two
    await measure(stage, log, OURS, "consume", records=log.records, processes=2, profile=profile)
    middle = {p: statistics.median(one.records_per_s for one in measured) for p, measured in results.items()}
    return row | {
        "ours": round(middle[1]),
        "beside": {f"{processes}_processes": round(rate) for processes, rate in middle.items()},
        "gain": {str(processes): round(rate / middle[1], 2) for processes, rate in middle.items()},
        "limited_by": f"{psutil.cpu_count()} processors for workers, PostgreSQL and Kafka together",
        "profile": str(profile),
    }
