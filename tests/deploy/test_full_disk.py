"""A disk that is full for a while: what died is started again once there is room, and what is to stop stops."""

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local import processes
from deploy.local.processes import Child, ProcessFile, start_child
from deploy.local.progress import Progress
from deploy.local.running_programs import Reviver
from tests.fixtures.eventually import eventually

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@contextlib.contextmanager
def full_disk(started: list[int]) -> Iterator[None]:
    """Nothing is written down meanwhile; `started` are the processes that should have been."""

    def refuse(path: Path, text: str) -> None:
        started.extend(int(word.strip('," ')) for word in text.split() if word.strip('," ').isdigit())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "write_private", refuse)
        yield


def start(folder: Path) -> Child:
    return start_child(SLEEPER, name="sleeper", log=folder / "log", record_in=ProcessFile(path=folder / "processes"))


async def test_what_died_is_started_again_once_the_disk_has_room(tmp_path: Path) -> None:
    """While it has none, neither a line of the supervisor nor the process itself can be written down."""
    children, started = {"sleeper": start(tmp_path)}, list[int]()

    async def revive(name: str) -> None:
        children[name] = start(tmp_path)

    nowhere = Path("/dev/full").open("w")  # noqa: ASYNC230, SIM115 - closing it fails like each write
    reviver = Reviver(report=Progress(Console(file=nowhere)).say)
    watching = asyncio.create_task(reviver.watch(lambda: children, revive, every_s=0.01))
    try:
        with full_disk(started):
            children["sleeper"].signal(signal.SIGKILL)
            await eventually(lambda: len(started) >= 2, within=20)
            assert not any(map(is_there, started))
        await eventually(lambda: children["sleeper"].running, within=20)
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await children["sleeper"].stop()
        with contextlib.suppress(OSError):
            nowhere.close()


async def test_what_is_to_stop_stops_on_a_full_disk(tmp_path: Path) -> None:
    child = start(tmp_path)
    with full_disk([]):
        assert await child.stop()
    assert not child.running


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
