"""`python -m deploy.simulator.seed --data DIR`: plays a population from where clinic time is held to the present.

Clinic time runs in steps; at the end of each it holds until every service has settled and the simulated staff have done
what they meant to, so that weeks of reminders, lapses and escalations are lived through by the real system. It can be
stopped at any point and started again.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aiokafka.errors import KafkaError

from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, running_stack
from deploy.simulator.access import Access, Away, Refused, open_access
from deploy.simulator.backlog import backlog, first_of
from deploy.simulator.care_team import CareTeam, LeftToOthers
from deploy.simulator.clinic import prepare_clinic
from deploy.simulator.clinic_time import ClinicTime, NotSettled, wait_settled
from deploy.simulator.diary import CohortEntry, load_diary, save_entry
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import Cohort
from deploy.simulator.playing import Play
from deploy.simulator.publish import open_phones
from shared.clock import wall_now

SEED = 30
"""Whichever weekday it starts on, some knees flare up in its last days, so that the console has something to show."""
MEMBERS = 60
DAYS = 84
STEP = timedelta(hours=5)
"""Of clinic time, at most: it also holds where somebody has something to see or to do. Shorter
than the six hours after which a session reminder is stale."""
RUN_S = 0.1
"""Machine seconds of a whole step while time runs: long enough for a session to cancel a reminder hours later."""
SETTLE_S = 90.0
NEAR = timedelta(seconds=30)
"""So close to the wall clock, clinic time has met it."""
PUMP_S = 0.01

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Seeding:
    """A population on its fast way to the present."""

    access: Access
    time: ClinicTime
    play: Play
    team: CareTeam
    say: Say

    async def run(self) -> None:
        week = self._week()
        # From the whole stream, also what was sent before an interruption: equal whenever it is asked.
        sent = backlog(self.play.entry.cohort, until_at=wall_now())
        self._looks = [publication.at for publication in sent if publication.needs_a_look]
        while wall_now() - self.time.now() > NEAR:
            await self.step(*self._limit())
            if self._week() > week:
                week = self._week()
                self.say(f"clinic week {week}: {self._tally()}")
        self.time.release()
        now = self.time.now()
        await self.play.send_due(now)
        await self._settle(now)
        self.play.note(now)
        self.say(f"clinic time has met the wall clock: {self._tally()}")

    def _week(self) -> int:
        return (self.time.now() - self.play.entry.cohort.starts_at) // timedelta(weeks=1)

    def _limit(self) -> tuple[datetime, bool]:
        """Where to hold next, and whether staff then look at their queues: after a step, or when somebody has something
        to look at or to do."""
        now = self.time.now()
        limit, look = min(now + STEP, wall_now()), False
        for sooner in (self.play.next_look(until=limit), self.team.next_due(after=now)):
            if sooner is not None and now < sooner < limit:
                limit, look = sooner, True
        return limit, look

    async def step(self, limit: datetime, look: bool) -> None:
        now = self.time.now()
        self.time.run_to(limit, within_s=max(0.02, RUN_S * ((limit - now) / STEP)))
        while self.time.now() < limit:
            await self.play.send_due(self.time.now())
            await asyncio.sleep(PUMP_S)
        await self.play.send_due(limit)
        await self._settle(limit)
        self.team.notice(self.play.take_written())
        await self.team.act(limit, left=LeftToOthers.at_end(wall_now(), load_parameters(), self._looks), look=look)
        self.play.note(limit, staff_did=self.team.done)

    async def _settle(self, at: datetime) -> None:
        await wait_settled(self.access.client, self.access.stack, at=at, within_s=SETTLE_S)

    def _tally(self) -> str:
        sent = self.play.sent
        refused = f", {sent.refused.total()} refused" if sent.refused else ""
        return (
            f"{sent.intakes} intakes, {sent.events} events, {sent.messages} messages{refused}; "
            f"care team: {self.team.tally()}"
        )


async def seed(stack: Stack, *, members: int = MEMBERS, days: int = DAYS, seed: int = SEED, say: Say = print) -> None:
    """Plays a population into a stack whose clinic time is held in the past, until it meets the wall clock.

    Raises LocalProblem when a part of the stack stays away or does not come to rest; starting again continues.
    """
    time = ClinicTime(clock_file=stack.clock_file)
    cohort = Cohort(seed=seed, members=members, days=days, starts_on=time.now().date())
    entry = load_diary(stack.simulation).entry_of(cohort)
    if entry is None:
        entry = CohortEntry.new(cohort, via="both")
        save_entry(stack.simulation, entry)
    try:
        async with open_access(stack) as access, open_phones(access, via=entry.via) as phones:
            play = Play(entry=entry, phones=phones, data=stack.simulation)
            await prepare_clinic(access, members=play.members, now=time.now())
            team = CareTeam(access=access, p=load_parameters(), done=Counter(entry.staff_did))
            await team.add_members(cohort.name, play.members)
            await Seeding(access=access, time=time, play=play, team=team, say=say).run()
    except* NotSettled as groups:
        raise LocalProblem(f"The services did not come to rest: {first_of(groups)}.") from groups
    except* (Away, KafkaError, Refused) as groups:
        raise LocalProblem(f"The simulation could not go on: {first_of(groups)}.") from groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    try:
        asyncio.run(
            seed(
                running_stack(given.data.absolute()), members=given.members, days=given.days, seed=given.seed, say=_say
            )
        )
    except LocalProblem as problem:
        raise SystemExit(f"careloop: {problem}") from None


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)


if __name__ == "__main__":
    main()
