"""`make chaos-mutants [NAMES="..."] [SEED=n]`: runs with a sentence of the protocol undone, to be caught each time.

First a run that is whole: it must find nothing. Ends with 1 where a mutant survives.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.complaints import Complaints
from tests.chaos.ending import ENDED_EARLY, ENDED_EARLY_CODE, end_when_told
from tests.chaos.findings import Area
from tests.chaos.mutants import LIST, MUTANTS
from tests.chaos.run import Outcome, draw_plan, run, today
from tests.chaos.undoing import Mutant
from tests.chaos.world import Stage, open_stage

APPLY = "import sys; from tests.chaos.mutants import apply_mutant; apply_mutant(sys.argv[1])"
console = Console()


def must_apply(mutant: Mutant) -> None:
    """In a process of its own. CalledProcessError where it does not."""
    subprocess.run([sys.executable, "-c", APPLY, mutant.name], check=True, capture_output=True)


async def attempt(stage: Stage, mutant: Mutant, *, undone: bool, seed: int | None = None) -> Outcome:
    """A run with a mutant's faults; with the mutant itself, or whole. `seed`: another than it comes with."""
    drawn = draw_plan(mutant.seed if seed is None else seed, seconds=mutant.seconds, today=today())
    plan = replace(drawn, faults=mutant.faults, evening=mutant.evening, documenting=(), is_brief=True)
    return await run(stage, plan, mutant=mutant.name if undone else None, say=lambda _: None)


async def mutate(chosen: Sequence[Mutant], folder: Path, *, seed: int | None = None) -> int:
    end_when_told()
    complaints = Complaints()
    complaints.count()
    table, survived = Table("mutant", "caught by", "such as"), 0
    async with open_stage(folder) as stage:
        whole = await attempt(stage, chosen[0], undone=False, seed=seed)
        if whole.findings:
            console.print(whole.report)
            return 1
        for mutant in chosen:
            # One that does not apply would end every process, which must not pass for being caught.
            await asyncio.to_thread(must_apply, mutant)
            outcome = await attempt(stage, mutant, undone=True, seed=seed)
            areas = dict.fromkeys(finding.area for finding in outcome.findings)
            caught = _caught(mutant, areas)
            survived += not caught
            first = next((str(f) for f in outcome.findings if f.area in mutant.caught_by), "SURVIVED")
            console.print(f"{mutant.name}: {'caught' if caught else 'SURVIVED'} {', '.join(areas)}", highlight=False)
            table.add_row(mutant.name, ", ".join(areas), first[:100])
    console.print(table)
    if complaints.heard:
        console.print(str(complaints))
    console.print(f"{len(chosen) - survived} of {len(chosen)} mutants are caught")
    return int(survived > 0)


def _caught(mutant: Mutant, areas: Sequence[Area] | dict[Area, None]) -> bool:
    return any(area in mutant.caught_by for area in areas)


def main() -> None:
    options = argparse.ArgumentParser(prog="make chaos-mutants", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="all if none is given")
    options.add_argument("--seed", type=int, default=None, help="for the streams of all; each has its own if not given")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="careloop-chaos-"))
    try:
        code = asyncio.run(mutate([MUTANTS[name] for name in chosen.names] or LIST, folder, seed=chosen.seed))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print(ENDED_EARLY, file=sys.stderr)
        code = ENDED_EARLY_CODE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
