"""Our own Python processes: started, waited for, started again when they die, stopped."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deploy.local.problems import LocalProblem
from deploy.local.processes import Child, ProcessFile, last_lines, start_child
from deploy.local.programs import ROOT, Program, inherited_environment

READY_LIMIT_S = 120.0
READY_POLL_S = 0.05
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STEADY_S = 60.0
LIVE_EVERY_S, DEAF_MAX = 10.0, 3
"""How often a program is asked whether it is live, and after how many times no it is ended."""
STOP_GRACE_S = 7.0  # all of a stop is to take 15 s at most, the servers included

Report = Callable[[str], None]


def backoff_s(failures: int) -> float:
    """How long to wait before the next start, after this many in short succession."""
    return min(BACKOFF_FIRST_S * 2.0 ** min(failures, 20), BACKOFF_MAX_S)


@dataclass(kw_only=True)
class RunningPrograms:
    """The processes of a stack. Logs go to `logs/NAME.log` in the data directory."""

    data: Path
    record: ProcessFile
    report: Report
    programs: dict[str, Program] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, program: Program) -> None:
        self.programs[program.name] = program
        self.children[program.name] = start_child(
            program.command,
            name=program.name,
            log=self.data / "logs" / f"{program.name}.log",
            record_in=self.record,
            cwd=ROOT,
            env={**inherited_environment(), **program.env},
            grace_s=STOP_GRACE_S,
        )

    async def wait_ready(self, program: Program) -> None:
        """Until it says that it can work. Raises LocalProblem if it ends or takes too long."""
        if program.ready_url is None:
            return
        deadline = time.monotonic() + READY_LIMIT_S
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            while not await answers_ok(client, program.ready_url):
                child = self.children[program.name]
                if not child.running:
                    said = last_lines(child.log, 1).strip()
                    raise LocalProblem(f"{program.name} ended while it started: {said[:300]} (see {child.log}).")
                if time.monotonic() > deadline:
                    raise LocalProblem(f"{program.name} was not ready within {READY_LIMIT_S:.0f} s (see {child.log}).")
                await asyncio.sleep(READY_POLL_S)

    async def end_deaf(self, *, every_s: float) -> None:
        """Until cancelled: who says of itself, and goes on saying, that it is not live is ended, as an orchestrator
        would; whoever watches it starts it again. One that says nothing has much to do, or a machine that slept."""
        denied = Counter[str]()
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            while True:
                await asyncio.sleep(every_s)
                for name, child in list(self.children.items()):
                    url = self.programs[name].live_url
                    is_deaf = url is not None and await answer_of(client, url) == httpx.codes.SERVICE_UNAVAILABLE
                    denied[name] = denied[name] + 1 if is_deaf else 0
                    if denied[name] == DEAF_MAX:
                        self.report(f"{name} says that it is not live; it is ended (see {child.log})")
                        await child.stop()

    async def stop(self, names: Sequence[str]) -> None:
        """Ends these at once, and returns when all have."""
        children = [self.children.pop(name) for name in names if name in self.children]
        for child, orderly in zip(children, await asyncio.gather(*(child.stop() for child in children)), strict=True):
            self.report(f"{child.name} stopped" if orderly else f"{child.name} did not stop in time and was killed")


async def answers_ok(client: httpx.AsyncClient, url: str) -> bool:
    """True on an answer 200, false on any other and on none."""
    return await answer_of(client, url) == httpx.codes.OK


async def answer_of(client: httpx.AsyncClient, url: str) -> int | None:
    """The status of the answer, None where none comes."""
    try:
        return (await client.get(url)).status_code
    except httpx.HTTPError:
        return None


@dataclass(kw_only=True)
class Reviver:
    """Starts again what died, each with its own backoff, for as long as `watch` runs."""

    report: Report
    failures: dict[str, int] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)
    reviving: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def watch(
        self,
        children: Callable[[], dict[str, Child]],
        revive: Callable[[str], Awaitable[None]],
        *,
        every_s: float = 0.2,
    ) -> None:
        """Until cancelled."""
        try:
            while True:
                for name, child in children().items():
                    if not child.running and name not in self.reviving:
                        self.reviving[name] = asyncio.create_task(self._revive(name, child, revive))
                await asyncio.sleep(every_s)
        finally:
            for task in self.reviving.values():
                task.cancel()
            await asyncio.gather(*self.reviving.values(), return_exceptions=True)

    async def _revive(self, name: str, child: Child, revive: Callable[[str], Awaitable[None]]) -> None:
        how = child.process.returncode
        ended = f"was killed by signal {-how}" if how < 0 else f"ended with code {how}"
        if time.monotonic() - self.started_at.get(name, 0.0) > STEADY_S:
            self.failures[name] = 0
        delay = backoff_s(self.failures.get(name, 0))
        self.failures[name] = self.failures.get(name, 0) + 1
        try:
            self.report(f"{name} {ended}; starting it again in {delay:g} s (see {child.log})")
            await asyncio.sleep(delay)
            self.started_at[name] = time.monotonic()
            await revive(name)
            self.report(f"{name} is back")
        except LocalProblem as problem:
            self.report(f"{name} could not be started again: {problem}")
        except Exception as error:  # whatever it is, as a disk that is full, it may have passed at the next attempt
            self.report(f"{name} could not be started again: {type(error).__name__}: {error}")
        finally:
            del self.reviving[name]
