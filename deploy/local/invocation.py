"""How whoever reads our messages can run the next command: `careloop` is on nobody's PATH where a venv holds it."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def careloop_command(*arguments: str) -> str:
    """A line for a shell, such as `.venv/bin/careloop down --data /srv/data`."""
    return shlex.join([_program(), *arguments])


def _program() -> str:
    script = Path(sys.executable).with_name("careloop")
    found = shutil.which("careloop")
    if not script.exists() or (found is not None and Path(found).resolve() == script.resolve()):
        return "careloop"
    # Where their shell is, not where we are: a detached process works elsewhere.
    place = Path(os.environ.get("PWD", "/"))
    return str(script.relative_to(place) if script.is_relative_to(place) and place != Path("/") else script)
