"""`careloop up` over its whole life, with stand-ins for the four services and everything else real."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.cli.status import ask_all
from deploy.local.processes import ProcessFile, is_running
from deploy.local.stack import SERVICES, Stack, load_stack

ROOT = Path(__file__).parents[2]
PORTS = ("messaging", "enrollment", "plans", "notifications", "issuer", "mail", "smtp", "kafka", "postgres", "valkey")
ALL = {"kafka", "postgres", "valkey", "issuer", "mail_sink", "population", *SERVICES}
ASKED = {*ALL, *(f"{name} events" for name in SERVICES)}

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Up:
    data: Path
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, *, limit_s: float = 150, times: int = 1) -> None:
        deadline = time.monotonic() + limit_s
        while self.said.count(text) < times:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def stack(self) -> Stack:
        stack = load_stack(self.data)
        assert stack is not None
        return stack

    def pids(self) -> dict[str, int]:
        entries = ProcessFile(path=self.data / "processes.json").load().entries
        return {name: entry.pid for name, entry in entries.items() if is_running(entry)}


def start_up(data: Path, *arguments: str, **settings: str) -> Up:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CARELOOP_")}
    ports = {f"CARELOOP_{name.upper()}_PORT": "0" for name in PORTS}
    output = data.parent / f"said-{time.monotonic_ns()}"
    with output.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.deploy.run_up", str(data), *arguments],
            cwd=ROOT, env={**kept, **ports, **settings}, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    return Up(data=data, process=process, output=output)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data directory in a path with a space; whatever still runs on it at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="careloop up ") as folder:
        data = Path(folder) / "data"
        yield data
        for entry in ProcessFile(path=data / "processes.json").load().entries.values():
            if is_running(entry):
                os.kill(entry.pid, signal.SIGKILL)


def end(up: Up) -> None:
    with contextlib.suppress(ProcessLookupError):
        up.process.kill()
    up.process.wait()


async def write_everywhere(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.services["plans"].database_url)
    await connection.execute("create table kept as select 42 as answer")
    await connection.close()
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap, acks="all") as producer:
        await producer.send_and_wait("careloop.activity", b"kept", partition=3)


async def read_everywhere(stack: Stack) -> tuple[int, bytes]:
    connection = await asyncpg.connect(stack.services["plans"].database_url)
    answer = await connection.fetchval("select answer from kept")
    await connection.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka_bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition("careloop.activity", 3)])
        record = await asyncio.wait_for(consumer.getone(), 15)
    return answer, record.value


def test_everything_is_well_and_a_second_copy_is_refused(data: Path) -> None:
    up = start_up(data)
    try:
        up.wait_for("RUNNING")
        assert set(up.pids()) == ALL
        assert all(part.ok for part in asyncio.run(ask_all(up.stack())))
        told = CliRunner().invoke(app, ["status", "--json", "--data", str(data)])
        assert told.exit_code == 0
        assert {part["name"] for part in json.loads(told.stdout)["parts"]} == ASKED

        second = start_up(data)
        assert second.process.wait(30) == 1
        assert second.said.count("\n") == 1
        assert "Another copy already runs on" in second.said
        assert set(up.pids()) == ALL
    finally:
        end(up)


def test_killed_services_and_servers_come_back_and_sigterm_leaves_nothing(data: Path) -> None:
    up = start_up(data)
    try:
        up.wait_for("RUNNING")
        before = up.pids()
        os.kill(before["plans"], signal.SIGKILL)
        os.kill(before["postgres"], signal.SIGKILL)
        up.wait_for("plans was killed by signal 9")
        up.wait_for("is back", times=2)
        after = up.pids()
        assert set(after) == ALL
        assert {name for name in ALL if after[name] != before[name]} == {"plans", "postgres"}
        assert all(part.ok for part in asyncio.run(ask_all(up.stack())))

        started = time.monotonic()
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(15) == 0
        assert time.monotonic() - started < 15
        assert up.pids() == {}
        for pid in after.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        order = [line.split()[0] for line in up.said.splitlines() if line.endswith("stopped")]
        assert order[0] == "population"
        assert set(order[1:5]) == set(SERVICES)
        assert set(order[-3:]) == {"valkey", "postgres", "kafka"}
        told = CliRunner().invoke(app, ["status", "--data", str(data)])
        assert told.exit_code == 1
    finally:
        end(up)


def test_a_service_that_says_that_it_is_not_live_is_another_process_soon(data: Path) -> None:
    up = start_up(data)
    try:
        up.wait_for("RUNNING")
        before = up.pids()
        assert httpx.get(f"{up.stack().services['messaging'].url}/deafen").status_code == httpx.codes.OK
        up.wait_for("messaging says that it is not live")
        up.wait_for("messaging is back")
        after = up.pids()
        assert {name for name in ALL if after[name] != before[name]} == {"messaging"}
        assert up.said.count("not live") == 1
    finally:
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(15) == 0


def test_after_kill_9_of_everything_the_next_up_has_all_data(data: Path) -> None:
    first = start_up(data)
    try:
        first.wait_for("RUNNING")
        asyncio.run(write_everywhere(first.stack()))
        victims = [first.process.pid, *first.pids().values()]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        first.process.wait()
    finally:
        end(first)
    second = start_up(data)
    try:
        second.wait_for("RUNNING")
        assert asyncio.run(read_everywhere(second.stack())) == (42, b"kept")
    finally:
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(15) == 0


def test_what_a_killed_up_left_running_is_stopped_by_the_next_and_by_down(data: Path) -> None:
    first = start_up(data)
    first.wait_for("RUNNING")
    asyncio.run(write_everywhere(first.stack()))
    end(first)
    orphans = first.pids()
    assert set(orphans) == ALL
    second = start_up(data)
    second.wait_for("RUNNING")
    assert second.said.count("had left behind") == len(ALL)
    assert not set(orphans.values()) & set(second.pids().values())
    assert asyncio.run(read_everywhere(second.stack())) == (42, b"kept")
    end(second)
    left = second.pids()
    told = CliRunner().invoke(app, ["down", "--data", str(data)])
    assert told.exit_code == 0, told.stdout
    assert second.pids() == {}
    assert set(left) == ALL
    again = CliRunner().invoke(app, ["down", "--data", str(data)])
    assert again.exit_code == 0
    assert "Nothing runs on" in again.stdout


def test_a_population_is_played_in_once_also_when_it_was_interrupted(data: Path) -> None:
    gate = data.parent / "gate"
    first = start_up(data, str(gate))
    first.wait_for("seed starts at")
    assert first.stack().state == "seeding"
    held = (data / "clock.json").read_text()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(15) == 0
    assert first.pids() == {}

    second = start_up(data, str(gate))
    second.wait_for("seed starts at")
    assert held in second.said  # clinic time was not put back a second time
    gate.touch()
    second.wait_for("RUNNING")
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(15) == 0

    third = start_up(data, str(gate))
    third.wait_for("RUNNING")
    assert "seed starts at" not in third.said
    assert not (data / "clock.json").exists()
    third.process.send_signal(signal.SIGTERM)
    assert third.process.wait(15) == 0

    # The same directory, but other servers: nobody was played into these.
    shutil.move(data / "postgres", data.parent / "elsewhere")
    shutil.move(data / "kafka", data.parent / "elsewhere-too")
    (data / "stack.json").write_text("{}")
    fourth = start_up(data, str(gate))
    fourth.wait_for("RUNNING")
    assert fourth.said.count("seed starts at") == 1
    fourth.process.send_signal(signal.SIGTERM)
    assert fourth.process.wait(15) == 0


def test_a_taken_port_ends_up_with_one_sentence_and_nothing_running(data: Path) -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        up = start_up(data, CARELOOP_POSTGRES_PORT=str(holder.getsockname()[1]))
        assert up.process.wait(60) == 1
    sentences = [line for line in up.said.splitlines() if line.startswith("careloop: ")]
    assert len(sentences) == 1
    assert "which PostgreSQL needs, is taken" in sentences[0]
    assert "CARELOOP_POSTGRES_PORT" in sentences[0]
    assert "Traceback" not in up.said
    assert up.pids() == {}
