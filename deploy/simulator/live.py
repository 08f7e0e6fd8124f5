"""`python -m deploy.simulator.live --data DIR`: a stack's populations live on at normal speed, until it is stopped.

What was due while the stack was down is sent first, as phones do that were without signal. The simulated staff leave
what is fresh to whoever sits at the console.
"""

import argparse
import asyncio
import signal
import sys
import traceback
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from aiokafka.errors import KafkaError

from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, running_stack
from deploy.simulator.access import Access, Away, open_access
from deploy.simulator.backlog import first_of
from deploy.simulator.care_team import CareTeam, LeftToOthers
from deploy.simulator.diary import CohortEntry, load_diary
from deploy.simulator.parameters import load_parameters
from deploy.simulator.playing import AGE_MAX, Play
from deploy.simulator.publish import Phones, open_producer
from shared.clock import Clock, open_clock

TICK_S = 1.0
STOP_S = 3.0
STAFF_TICKS = 20
NOTE_TICKS = 60
"""Ticks between two looks of the staff, and between two notes when nothing was sent."""
AWAY = (Away, KafkaError, httpx.TransportError)
"""What passes by itself."""


@dataclass(kw_only=True)
class Living:
    """All populations of a stack, from now on."""

    stack: Stack
    access: Access
    clock: Clock
    _plays: dict[str, Play] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._team = CareTeam(access=self.access, p=load_parameters())

    async def run(self, stopping: asyncio.Event) -> None:
        producer = open_producer(self.stack)
        async with AsyncExitStack() as open_things:
            open_things.push_async_callback(producer.stop)
            await producer.start()
            tick = 0
            while not stopping.is_set():
                try:
                    for entry in load_diary(self.stack.simulation).cohorts:
                        if entry.cohort.name not in self._plays:
                            await self._add(entry, Phones(access=self.access, producer=producer, via=entry.via))
                            tick = 0  # whoever came is looked after at once
                    if tick == 0 and not self._plays:
                        print("nobody is simulated here yet; waiting for `careloop simulate`", flush=True)
                    await self._tick(tick)
                except* AWAY as groups:
                    # Nothing was noted as sent, so it is sent again.
                    print(f"a part of the stack is away, trying again: {first_of(groups)!r}", flush=True)
                tick += 1
                await _wait(stopping, TICK_S)

    async def _add(self, entry: CohortEntry, phones: Phones) -> None:
        play = Play(entry=entry, phones=phones, data=self.stack.simulation)
        await self._team.add_members(entry.cohort.name, play.members)
        self._plays[entry.cohort.name] = play
        print(f"population {entry.cohort.name} lives on", flush=True)

    async def _tick(self, tick: int) -> None:
        now = self.clock.now()
        for play in self._plays.values():
            if play.due(now) or tick % NOTE_TICKS == 0:
                await play.send_due(now, oldest=now - AGE_MAX)
                play.note(now)
            self._team.notice(play.take_written())
        # The staff come with the first population: before that the issuer knows none of them.
        if self._plays and tick % STAFF_TICKS == 0:
            await self._team.act(now, left=LeftToOthers.in_life(now, load_parameters()), look=True)


async def _wait(stopping: asyncio.Event, limit_s: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), limit_s)
    except TimeoutError:
        return


async def live(stack: Stack) -> None:
    """Plays on until SIGTERM or SIGINT. Raises whatever else ends it."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_access(stack) as access:
        living = Living(stack=stack, access=access, clock=open_clock(stack.clock_file))
        playing, stopped = asyncio.create_task(living.run(stopping)), asyncio.create_task(stopping.wait())
        await asyncio.wait({playing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # What is on its way may finish; what was sent but not noted is sent again, which is safe.
        await asyncio.wait({playing}, timeout=STOP_S)
        playing.cancel()
        stopped.cancel()
        await asyncio.wait({playing, stopped})
        if not playing.cancelled():
            playing.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    try:
        asyncio.run(live(running_stack(given.data.absolute())))
    except Exception as error:
        first = first_of(error)
        if not isinstance(first, LocalProblem):
            traceback.print_exception(error)
        print(f"careloop: {first if isinstance(first, LocalProblem) else repr(first)}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
