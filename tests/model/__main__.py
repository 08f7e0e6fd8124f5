"""Explores the protocol and prints what was found: `python -m tests.model [--deep] [--json FILE] [--trace RULE]`.

`--deep` takes larger bounds: some minutes, and a few gigabytes of memory.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.model.cases import Breaks, Holds
from tests.model.catalogue import CLAIMS, all_rules
from tests.model.checker import Found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="larger bounds, too")
    parser.add_argument("--json", type=Path, help="write the table to this file as JSON")
    parser.add_argument("--trace", metavar="RULE", help="only show what happens without this rule")
    options = parser.parse_args()
    if options.trace:
        return trace(options.trace)
    rows = run(deep=options.deep)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(row["as_expected"] for row in rows) else 1


def run(*, deep: bool) -> list[dict[str, Any]]:
    """Check every claim, printing a row of a Markdown table for each as it is found."""
    print("| what | states | depth | seconds | verdict |\n| --- | ---: | ---: | ---: | --- |")
    cases: list[Holds | Breaks] = [*CLAIMS.holds, *(CLAIMS.deep if deep else []), *CLAIMS.breaks]
    rows: list[dict[str, Any]] = []
    for case in cases:
        found = case.check()
        rows.append(_row(case, found))
        print("| {what} | {states} | {depth} | {seconds} | {verdict} |".format(**rows[-1]), flush=True)
    print(f"\n{len(rows)} machines, {sum(r['states'] for r in rows)} states, {sum(r['seconds'] for r in rows):.0f} s")
    return rows


def _row(case: Holds | Breaks, found: Found) -> dict[str, Any]:
    if isinstance(case, Holds):
        expected = found.broken is None and found.states >= case.states
        return {"what": case.name, "as_expected": expected, **_figures(found)}
    expected = found.invariant == case.invariant
    return {"what": f"without {case.rule}", "as_expected": expected, **_figures(found)}


def _figures(found: Found) -> dict[str, Any]:
    return {
        "states": found.states,
        "depth": found.depth,
        "seconds": round(found.seconds, 2),
        "verdict": found.broken or "holds",
        "trace": list(found.trace),
    }


def trace(rule: str) -> int:
    """Print the shortest way to what breaks without a rule."""
    cases = [case for case in CLAIMS.breaks if case.rule == rule]
    if not cases:
        print("no such rule; there are:\n  " + "\n  ".join(all_rules()))
        return 2
    for case in cases:
        print(case.check().told())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
