"""Stopping a stack from another terminal."""

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path

from deploy.local.problems import LocalProblem
from deploy.local.processes import ProcessFile
from deploy.local.servers import Report, stop_orphans
from deploy.local.stack import load_stack

STOP_LIMIT_S = 30.0


async def stop_stack(data: Path, *, report: Report) -> bool:
    """Asks the supervisor of `data` to stop, or without one ends what it left; False if nothing ran there.

    Raises LocalProblem if the supervisor does not end in time.
    """
    if not data.is_dir():
        return False
    stack = load_stack(data)
    if stack is not None and stack.is_supervised():
        report(f"stopping the stack on {data}")
        os.kill(stack.supervisor_pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_S
        while stack.is_supervised():
            if time.monotonic() > deadline:
                raise LocalProblem(f"The stack on {data} (pid {stack.supervisor_pid}) did not stop; try again.")
            await asyncio.sleep(0.05)
        return True
    if _is_locked(data):
        raise LocalProblem(f"A stack on {data} is just starting: stop it with Ctrl-C where it was started.")
    record = ProcessFile(path=data / "processes.json").load()
    found = bool(record.entries)
    await stop_orphans(data, record, report=report)
    return found


def _is_locked(data: Path) -> bool:
    try:
        with (data / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
