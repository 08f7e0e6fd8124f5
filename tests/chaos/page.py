"""The table of mutants in docs/chaos.md: `python -m tests.chaos.page` writes it anew."""

import re
from pathlib import Path

from tests.chaos.mutants import LIST

PAGE = Path(__file__).parents[2] / "docs/chaos.md"
BEGIN, END = "<!-- mutants: python -m tests.chaos.page -->", "<!-- end of mutants -->"


def table() -> str:
    rows = ["| mutant | what is undone | sentences | caught by |", "| --- | --- | --- | --- |"]
    for mutant in LIST:
        sentences = ", ".join(map(str, mutant.sentences))
        rows.append(f"| `{mutant.name}` | {mutant.undone} | {sentences} | {', '.join(mutant.caught_by)} |")
    return "\n".join(rows)


def section() -> str:
    """What stands between the marks of the page."""
    found = re.search(f"{re.escape(BEGIN)}\n(.*?)\n{re.escape(END)}", PAGE.read_text(), re.DOTALL)
    assert found, "the marks are gone"
    return found[1]


def main() -> None:
    PAGE.write_text(PAGE.read_text().replace(f"{BEGIN}\n{section()}\n", f"{BEGIN}\n{table()}\n"))


if __name__ == "__main__":
    main()
