"""What several commands take, and how each ends when something is wrong."""

import errno
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from pydantic import ValidationError
from rich.console import Console

from deploy.local.problems import LocalProblem

Data = Annotated[
    Path, typer.Option("--data", envvar="CARELOOP_DATA", help="Directory of the stack's data.", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
DATA_DEFAULT = Path(".careloop")

console = Console()
P = ParamSpec("P")


def one_sentence(command: Callable[P, None]) -> Callable[P, None]:
    """A problem that the user can mend ends the command with its one sentence and code 1, without a traceback."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except LocalProblem as problem:
            print(f"careloop: {problem}", file=sys.stderr)
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
