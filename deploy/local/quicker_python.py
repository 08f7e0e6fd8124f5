"""Prints which interpreter to use: of those in PATH that have the version of the one that runs this, the quickest.

The same version may be there in two builds, and one without profile-guided optimisation (some tools build so unless
told otherwise) takes a quarter longer for everything. Which is which they do not tell reliably, so a loop is timed.
Run by install.sh before anything is installed: the standard library only.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BUILD = f"{sys.implementation.name}-{VERSION}"
"""What is locked was built for: PyPy would be much quicker in a loop, and cannot be given any of it."""
WORTH_IT = 0.9
"""Of the time that the first one takes: another has to be quicker than that."""
TURNS = 3
"""So often each is timed, one after the other: a slow moment of the machine is nobody's."""
LIMIT_S = 10.0
"""One that says nothing for so long is no interpreter to use."""
# Calls, attributes, dictionaries and text: what a service does between two waits. Modules that install.sh needs.
LOOP = """
import ensurepip, sys, time, venv

class Place:
    def __init__(self, number):
        self.number = number

    def add(self, other):
        return self.number + other

def run():
    names, total = {}, 0
    for number in range(60_000):
        total += Place(number).add(total & 7)
        names[str(number % 1000)] = (number, total)

best = float("inf")
for _ in range(5):
    began = time.process_time()
    run()
    best = min(best, time.process_time() - began)
print("%s-%d.%d" % (sys.implementation.name, *sys.version_info[:2]), best)
"""


def find_interpreters() -> list[str]:
    """The one that runs this, then others of its version in PATH, each file once."""
    found = [Path(sys.executable)]
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = Path(folder) / f"python{VERSION}"
        if os.access(candidate, os.X_OK) and all(not candidate.samefile(other) for other in found):
            found.append(candidate)
    return [str(path) for path in found]


def seconds_for_loop(interpreter: str) -> float | None:
    """Of processor time, at its best; None where it does not run, lacks a module, or is another Python."""
    try:
        done = subprocess.run([interpreter, "-I", "-c", LOOP], capture_output=True, text=True, timeout=LIMIT_S)
        build, seconds = done.stdout.split()
        return float(seconds) if build == BUILD else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def choose(interpreters: Sequence[str], seconds: Callable[[str], float | None]) -> str:
    """The first, or the quickest where that is worth it."""
    first = interpreters[0]
    if len(interpreters) == 1:
        return first
    best = dict.fromkeys(interpreters, float("inf"))
    for _ in range(TURNS):
        for one in list(best):
            spent = seconds(one)
            if spent is None:
                del best[one]
            else:
                best[one] = min(best[one], spent)
    quickest = min(best, key=best.__getitem__, default=first)
    is_worth_it = first not in best or best[quickest] < best[first] * WORTH_IT
    return quickest if is_worth_it else first


if __name__ == "__main__":
    print(choose(find_interpreters(), seconds_for_loop))
