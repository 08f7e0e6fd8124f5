"""docs/statements.md: what the gate counts, for whoever reads a change. The test that counts a block holds it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.contracts.tables import table
from tests.statements.counting import Counted

PAGE = Path(__file__).parents[2] / "docs" / "statements.md"
HEAD = """# Statements of a batch

<!-- Written by `python -m tests.statements`. Do not edit: tests count again and compare. -->

How many statements are sent to PostgreSQL for one transaction, its begin, savepoints and commit counted, as the driver
sends them. 200 events cost as many as one: a statement in a loop fails `tests/statements`, and so does a group or a
timer that is not in it. Members live through the examples of the contracts, each event after those before it. A chunk,
a timer or a held event that reads a table from end to end fails it too
(decision [10](decisions/0010-plans-that-look-up.md)).
"""


@dataclass
class Run:
    """`python -m tests.statements` sets this, and the tests write what they otherwise compare."""

    writes: bool = False


RUN = Run()


def by_size(counts: Mapping[int, Counted]) -> list[str]:
    return [str(counted.total) for _, counted in sorted(counts.items())]


def keep_block(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write this block of the page, or compare it: AssertionError where the page says something else."""
    block = f"## {title}\n\n{table(header, rows)}\n"
    text = PAGE.read_text() if PAGE.exists() else HEAD
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if RUN.writes:
        rest = text if found is None else text[: found.start()] + text[found.end() :].lstrip("\n")
        PAGE.write_text(rest.rstrip("\n") + "\n\n" + block)
        return
    now = found[0].strip() if found else "nothing"
    assert now == block.strip(), (
        f"docs/statements.md is not what is counted; `python -m tests.statements` writes\n{block}"
    )
