"""What several commands take, and how each ends when something is wrong."""

import errno
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ParamSpec

import asyncpg
import typer
from pydantic import ValidationError
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from deploy.local.problems import LocalProblem

Data = Annotated[
    Path, typer.Option("--data", envvar="CARELOOP_DATA", help="Directory of the stack's data.", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
DATA_DEFAULT = Path(".careloop")

DATABASE_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What a database that does not answer raises; the second, at the end of a transaction whose connection is gone."""

WIDTH_MAX = 100_000

console = Console()
P = ParamSpec("P")


class _Wide:
    """A renderable at a width of its own, which rich caps at the console's everywhere else."""

    def __init__(self, content: RenderableType, width: int) -> None:
        self._content, self._width = content, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._content, options.update(width=self._width))


def print_whole(content: RenderableType, *, to: Console = console) -> None:
    """Print something so that no word of it is cut: as wide as it is in a pipe, where lines are read by programs; on a
    terminal no wider than its longest words ask for."""
    needed = Measurement.get(to, to.options.update(width=WIDTH_MAX), content)
    width = max(to.width, needed.minimum) if to.is_terminal else needed.maximum
    to.print(_Wide(content, width), crop=False)


def print_figures(headings: Sequence[str], rows: Sequence[Sequence[str | int]], *, to: Console = console) -> None:
    """A table of names and figures, none of them ever cut. A terminal that is too narrow for it gets a paragraph a
    row instead: the first cell, then what each figure is."""
    table = Table()
    for place, heading in enumerate(headings):
        is_figures = any(isinstance(row[place], int) for row in rows)
        table.add_column(heading, no_wrap=True, justify="right" if is_figures else "left")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    if not to.is_terminal or Measurement.get(to, to.options.update(width=WIDTH_MAX), table).maximum <= to.width:
        print_whole(table, to=to)
        return
    for first, *others in rows:
        to.print(str(first), style="bold", markup=False, highlight=False, soft_wrap=True)
        pairs = [f"{heading} {cell}" for heading, cell in zip(headings[1:], others, strict=True)]
        for line in _filled(pairs, width=to.width - 2):
            to.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _filled(words: Sequence[str], *, width: int) -> list[str]:
    """Lines of whole words, a comma between two."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f", {word}"
        elif lines:
            lines[-1] += ","
            lines.append(word)
        else:
            lines.append(word)
    return lines


def one_sentence(command: Callable[P, None]) -> Callable[P, None]:
    """A problem that the user can mend ends the command with its one sentence and code 1, without a traceback."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except LocalProblem as problem:
            print(f"careloop: {problem}", file=sys.stderr)
            raise typer.Exit(1) from None
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            print(f"careloop: {error.filename} cannot be used: {error.strerror}.", file=sys.stderr)
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            print("careloop: There is no space left on the disk.", file=sys.stderr)
            raise typer.Exit(1) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = "CARELOOP_" + "_".join(str(part) for part in first["loc"]).upper()
            print(f"careloop: the setting {name} is not valid: {first['msg']}.", file=sys.stderr)
            raise typer.Exit(1) from None

    return run
