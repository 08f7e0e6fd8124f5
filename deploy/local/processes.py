"""Child processes that are never confused with a stranger that got the same pid later.

Each child runs in its own session, so that Ctrl-C in the terminal reaches only the supervisor, which then stops the
children in order. Pid and start mark are written to a file: after a `kill -9` of the supervisor the next one finds the
orphans, and signals none but them.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import psutil

from deploy.local.problems import LocalProblem

POLL_S = 0.02
LOG_SIZE_MAX_BYTES = 20_000_000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A process as written down: the mark tells it from a later one with the same pid."""

    pid: int
    mark: str


def start_mark(pid: int) -> str | None:
    """What no later process with this pid can share, or None if no such process runs (a zombie does not run)."""
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        # Field 22 of proc(5), in clock ticks since boot: unlike a wall-clock time it cannot shift while we look.
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def is_running(recorded: Recorded) -> bool:
    return start_mark(recorded.pid) == recorded.mark


@dataclass(kw_only=True)
class ProcessFile:
    """`processes.json` of a data directory: name -> pid and start mark of every child that was started."""

    path: Path
    entries: dict[str, Recorded] = field(default_factory=dict)

    def load(self) -> "ProcessFile":
        try:
            found = json.loads(self.path.read_text())
            self.entries = {name: Recorded(pid=entry["pid"], mark=entry["mark"]) for name, entry in found.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            self.entries = {}  # torn by a crash before it was complete: written atomically, so only ever by hand
        return self

    def record(self, name: str, entry: Recorded) -> None:
        self.entries[name] = entry
        self._save()

    def forget(self, name: str) -> None:
        """Of what has ended. Where that cannot be written down its mark tells, and others are still to be stopped."""
        if self.entries.pop(name, None) is not None:
            with contextlib.suppress(OSError):
                self._save()

    def _save(self) -> None:
        body = {name: {"pid": entry.pid, "mark": entry.mark} for name, entry in self.entries.items()}
        write_private(self.path, json.dumps(body, indent=2))


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once, readable by its owner alone."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def open_log(path: Path) -> IO[bytes]:
    """A log to append to; one that grew large is set aside as `NAME.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_SIZE_MAX_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def last_lines(path: Path, count: int = 5) -> str:
    """The end of a log, for a message; empty if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 8192))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A process we started. `stop_signal` asks for an orderly end, `grace_s` is how long it may take."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    record_in: ProcessFile
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)

    async def stop(self) -> bool:
        """Ends it; True if it went in an orderly way within its grace, False if it had to be killed."""
        self.signal(self.stop_signal)
        orderly = await self._ended_within(self.grace_s)
        if not orderly:
            kill_session(self.process.pid)
            await self._ended_within(5.0)
        self.record_in.forget(self.name)
        return orderly

    async def _ended_within(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Runs blocking work. Unlike a pool's thread, one that is still busy (a download) does not delay the exit."""
    done = concurrent.futures.Future[T]()
    done.set_running_or_notify_cancel()  # from here on it cannot be cancelled under the thread's feet

    def run() -> None:
        try:
            result = work()
        except BaseException as problem:
            done.set_exception(problem)
        else:
            done.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(done)


def run_tool(
    command: Sequence[str | Path], *, name: str, cwd: Path | str, limit_s: float, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs `command` to its end and returns what it said. Raises LocalProblem where it cannot be started or hangs."""
    try:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=limit_s)
    except OSError as error:
        raise LocalProblem(_not_started(name, command, error)) from error
    except subprocess.TimeoutExpired as error:
        raise LocalProblem(f"{name} did not end within {limit_s:.0f} s ({command[0]}).") from error


def _not_started(name: str, command: Sequence[str | Path], error: OSError) -> str:
    return f"{name} cannot be started: {command[0]}: {error.strerror}."


def start_child(
    command: Sequence[str | Path],
    *,
    name: str,
    log: Path,
    record_in: ProcessFile,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace_s: float = 5.0,
) -> Child:
    """Starts `command` in its own session, output to `log`, and writes it down before anything else can fail.

    Raises LocalProblem where the system does not start it: a file that was broken, or that may not be run.
    """
    with open_log(log) as output:
        try:
            process = subprocess.Popen(
                [os.fspath(part) for part in command],
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalProblem(_not_started(name, command, error)) from error
    mark = start_mark(process.pid)
    if mark is not None:  # None: it has already ended, which the caller sees by `running`
        try:
            record_in.record(name, Recorded(pid=process.pid, mark=mark))
        except OSError:  # nobody would find it, nor start it a second time beside itself
            kill_session(process.pid)
            process.wait()
            raise
    return Child(name=name, process=process, log=log, record_in=record_in, stop_signal=stop_signal, grace_s=grace_s)


async def stop_recorded(recorded: Recorded, *, stop_signal: signal.Signals, grace_s: float) -> bool:
    """Ends a process that an earlier supervisor left; False if it was already gone. Never signals a stranger."""
    if not is_running(recorded):
        return False
    os.kill(recorded.pid, stop_signal)
    deadline = time.monotonic() + grace_s
    while is_running(recorded):
        if time.monotonic() > deadline:
            kill_session(recorded.pid)
            deadline = time.monotonic() + 5.0
        await asyncio.sleep(POLL_S)
    return True


def kill_session(leader_pid: int) -> None:
    """SIGKILL to a child and its process group (it leads one); nothing if they are gone."""
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(leader_pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
