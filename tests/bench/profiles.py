"""Where a process spends its time, sampled from outside, as text."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RATE = 300
LINES = 40


@contextmanager
def describe_profile(pid: int, path: Path) -> Iterator[None]:
    """Sample a process until the block ends; `path` then holds its lines by the time spent in each and below it, and a
    file beside it every stack that was seen. Where the system lets nobody look into a process, `path` says so."""
    stacks = path.with_suffix(".stacks")
    stacks.unlink(missing_ok=True)
    sampler = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--rate", str(RATE),
            "--format", "raw", "--output", str(stacks), "--nonblocking", "--duration", "3600",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)
        _, said = sampler.communicate(timeout=60)
        seen = _read(stacks)
        path.write_text(_describe(seen) if seen else f"no profile: {said.decode().strip()}\n")


def share_of(path: Path, folder: str) -> float | None:
    """Part of the samples with a function of this folder on the stack; None where there is no profile."""
    seen = _read(path.with_suffix(".stacks"))
    if not seen:
        return None
    within = sum(count for stack, count in seen if any(folder in frame for frame in stack))
    return round(within / sum(count for _, count in seen), 2)


def _read(stacks: Path) -> list[tuple[list[str], int]]:
    if not stacks.exists():
        return []
    # A sample that was read while its stack moved may hold anything, line breaks too.
    lines = (line.rpartition(" ") for line in stacks.read_text(errors="replace").split("\n"))
    return [(stack.split(";"), int(count)) for stack, _, count in lines if count.isdecimal()]


def _describe(seen: list[tuple[list[str], int]]) -> str:
    total, below, own = sum(count for _, count in seen), Counter[str](), Counter[str]()
    for stack, count in seen:
        own[stack[-1]] += count
        for frame in set(stack):
            below[frame] += count
    parts = [f"{total} samples, {RATE} a second"]
    for title, counted in (("in the line itself", own), ("in it and below", below)):
        parts += ["", title, *(f"{count / total:6.1%}  {frame}" for frame, count in counted.most_common(LINES))]
    return "\n".join(parts) + "\n"
