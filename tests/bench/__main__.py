"""`make bench`: contestants in turn, several rounds, medians and ratios; a table and build/bench.json."""

import argparse
import asyncio
import json
import os
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.stage import Measured, Stage, measure, open_stage

OURS, LOOP, MESSAGE = "tests.bench.ours", "tests.bench.loop", "tests.bench.per_message"
SHARE = {OURS: 1.0, LOOP: 1.0, MESSAGE: 0.01}
"""Part of the topic that a contestant reads: the slow one needs fewer records for as long a run."""
console = Console()


async def contest(stage: Stage, job: str, rounds: int) -> dict[str, Any]:
    """Every contestant once a round, in turn, so that a machine that drifts drifts for all."""
    results: dict[str, list[Measured]] = {OURS: [], LOOP: [], MESSAGE: []}
    for number in range(rounds):
        for module, measured in results.items():
            console.print(f"{job}: round {number + 1} of {rounds}, {module.rsplit('.', 1)[1]}", style="dim")
            measured.append(await measure(stage, module, job, records=int(stage.records * SHARE[module])))

    def middle(module: str, field: str = "records_per_s") -> float:
        return float(statistics.median(getattr(measured, field) for measured in results[module]))

    def ratio(module: str) -> float:
        pairs = zip(results[OURS], results[module], strict=True)
        return statistics.median(ours.records_per_s / theirs.records_per_s for ours, theirs in pairs)

    return {
        "name": job,
        "ours": round(middle(OURS)),
        "batch_loop": round(middle(LOOP)),
        "message_transaction": round(middle(MESSAGE)),
        "ratio_to_batch_loop": round(ratio(LOOP), 2),
        "ratio_to_message_transaction": round(ratio(MESSAGE), 1),
        "ours_cpu_us": round(middle(OURS, "worker_us"), 1),
        "batch_loop_cpu_us": round(middle(LOOP, "worker_us"), 1),
        "ours_memory_mb": round(middle(OURS, "memory_mb")),
        "unit": "records/s",
    }


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("job", "ours /s", "batch loop /s", "message tx /s", "x loop", "x message", "us ours", "us loop", "MB")
    for row in rows:
        table.add_row(*(str(row[name]) for name in (
            "name", "ours", "batch_loop", "message_transaction", "ratio_to_batch_loop", "ratio_to_message_transaction",
            "ours_cpu_us", "batch_loop_cpu_us", "ours_memory_mb",
        )))  # fmt: skip
    console.print(table)


async def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--records", type=int, default=int(os.environ.get("RECORDS", "60000")))
    options.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    options.add_argument("--jobs", nargs="+", default=["consume", "consume_rules"])
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    async with open_stage(records=chosen.records) as stage:
        for job in chosen.jobs:
            rows.append(await contest(stage, job, chosen.rounds))
    show(rows)
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
