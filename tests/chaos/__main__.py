"""`make chaos [MINUTES=30] [SEED=n]`: one run on servers of its own; ends with 1 where the oracle finds anything."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.complaints import Complaints
from tests.chaos.ending import ENDED_EARLY, ENDED_EARLY_CODE, end_when_told
from tests.chaos.run import draw_plan, run, today
from tests.chaos.world import open_stage


async def chaos(*, seed: int, minutes: float, keep: bool) -> int:
    end_when_told()
    complaints = Complaints()
    complaints.count()
    plan = draw_plan(seed, seconds=round(minutes * 60, 3), today=today())
    folder = Path(tempfile.mkdtemp(prefix="careloop-chaos-"))
    print(f"{plan.command}: {len(plan.stream)} records, {len(plan.faults)} faults", flush=True)
    async with open_stage(folder) as stage:
        outcome = await run(stage, plan, say=lambda line: print(line, flush=True))
    if complaints.heard:
        print(complaints)
    if outcome.findings:
        print(outcome.report)
        return 1
    print(f"everything once and in order after {len(outcome.done)} faults; again: {plan.command}")
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def main() -> None:
    options = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--seed", type=int, default=None, help="one of its own if not given")
    options.add_argument(
        "--keep", action="store_true", help="keep the folder of servers and logs also after a good run"
    )
    chosen = options.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if chosen.seed is None else chosen.seed
    try:
        sys.exit(asyncio.run(chaos(seed=seed, minutes=chosen.minutes, keep=chosen.keep)))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print(ENDED_EARLY, file=sys.stderr)
        sys.exit(ENDED_EARLY_CODE)


if __name__ == "__main__":
    main()
