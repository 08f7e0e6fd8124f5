"""Given people who train, when everything around their events is hurt, then each took effect once, in order."""

import random
from pathlib import Path

import pytest

from tests.chaos.run import draw_plan, run, today
from tests.chaos.world import open_stage

FIXED_SEED, SECONDS = 3265, 32.0


@pytest.mark.stack
@pytest.mark.timeout(3000)
async def test_each_accepted_event_takes_effect_once_and_in_order(tmp_path: Path) -> None:
    """A short `make chaos`: one seed that is always the same, and another each time."""
    async with open_stage(tmp_path) as stage:
        for seed in (FIXED_SEED, random.SystemRandom().randrange(1_000_000)):
            plan = draw_plan(seed, seconds=SECONDS, today=today())
            print(plan.command)
            outcome = await run(stage, plan)
            assert not outcome.findings, outcome.report
