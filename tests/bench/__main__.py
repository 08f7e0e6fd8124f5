"""`make bench`: rows of one table, measured in one run on the embedded servers; build/bench.json.

Where a row has contestants they run in turn, round after round: ratios are medians over the rounds.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.local.quicker_python import seconds_for_loop
from tests.bench import chunks, consuming, enduring, ingress, latency, relaying, timers
from tests.bench.stage import Stage, open_stage

ROWS: dict[str, Callable[[Stage], Awaitable[dict[str, Any]]]] = {
    "consume": partial(consuming.contest, job="consume"),
    "consume_rules": partial(consuming.contest, job="consume_rules"),
    "consume_skewed": consuming.skew,
    "chunk": chunks.contest,
    "scaling": consuming.scale,
    "relay": relaying.contest,
    "timers": timers.contest,
    "ingress_1": partial(ingress.contest, batch=1),
    "ingress_100": partial(ingress.contest, batch=100),
    "latency": latency.contest,
    "memory": enduring.soak,
    "backlog": enduring.drain,
}
RATIOS = {
    "ratio": "",
    "ratio_to_batch_loop": "loop",
    "ratio_to_message_transaction": "message",
    "ratio_to_kafka_streams": "streams",
}


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("row", "ours", "beside it", "times", "mark", "us", "s/million", "MB", "limited by")
    for row in rows:
        beside = "\n".join(f"{name} {value:,}" for name, value in row.get("beside", {}).items())
        times = "\n".join(f"{row[name]} {what}".strip() for name, what in RATIOS.items() if name in row)
        table.add_row(
            row["name"], f"{row['ours']:,} {row['unit']}", beside, times,
            *(str(row.get(name, "")) for name in ("mark", "ours_cpu_us", "cpu_s_per_million", "memory_mb")),
            row.get("limited_by", ""),
        )  # fmt: skip
    Console(width=160).print(table)


async def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--records", type=int, default=int(os.environ.get("RECORDS", "60000")))
    options.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    jobs = os.environ.get("JOBS", " ".join(ROWS)).split()
    options.add_argument("--jobs", nargs="+", choices=list(ROWS), default=jobs)
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    # What runs all this, and how quick it is in this hour.
    loop_ms = round((seconds_for_loop(sys.executable) or 0.0) * 1000, 1)
    python = {"version": platform.python_version(), "path": os.path.realpath(sys.executable), "loop_ms": loop_ms}
    Path("build").mkdir(exist_ok=True)
    async with open_stage(records=chosen.records, rounds=chosen.rounds) as stage:
        for job in chosen.jobs:
            rows.append(await ROWS[job](stage))
            Path("build/bench.json").write_text(json.dumps({"python": python, "rows": rows}, indent=2) + "\n")
    show(rows)
    print(f"Python {python['version']} at {python['path']}; the loop of deploy/local/quicker_python.py: {loop_ms} ms")


if __name__ == "__main__":
    asyncio.run(main())
