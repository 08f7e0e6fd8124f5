"""Given whoever reads the log of a service stalls or goes, then the service works on and loses lines, not events."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import orjson
import pytest

from shared.log_output import LOG_LINES_LOST, LogOutput
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService

PIPE = 1 << 16
FAILURES = 600


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[int]:
    """Of a pipe at `tmp_path / "pipe"`, that reads nothing by itself."""
    os.mkfifo(tmp_path / "pipe")
    file = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    yield file
    with suppress(OSError):
        os.close(file)


@pytest.fixture
async def service(spawn_service: SpawnService, tmp_path: Path, reader: int) -> ServiceProcess:
    """Which logs each failure to the pipe."""
    process = spawn_service("tests.shared.faulty_service", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    process.log = tmp_path / "pipe"
    await process.start()

    async def answers() -> bool:
        return (await process.get("/health/live")).get("live") is True

    await eventually(answers, what="the service answers")
    return process


async def fail_often(process: ServiceProcess) -> None:
    # The server closes a connection after a failure: the next request must not be on its way there already.
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}", timeout=10, limits=fresh) as client:
        for _ in range(FAILURES):
            assert (await client.get("/bugs/route")).status_code == 500


async def test_a_service_whose_log_nobody_reads_works_on(service: ServiceProcess, reader: int) -> None:
    await fail_often(service)
    said = await read_until(reader, lambda text: text.count(b"ASGI") == FAILURES)
    assert len(said) > PIPE, "it was full, and nobody read"
    assert {orjson.loads(line)["service"] for line in said.splitlines()} == {"faulty"}
    await fail_often(service)
    assert await service.terminate() == 0, "it does not wait for its reader for ever"


async def test_a_service_whose_log_reader_is_gone_works_on(service: ServiceProcess, reader: int) -> None:
    os.close(reader)
    await fail_often(service)
    assert await service.terminate() == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_lines_that_find_no_room_are_lost_and_counted(waits: bool) -> None:
    """And no line is cut short, also where somebody had writing to it fail instead of wait."""
    reading, writing = os.pipe()
    os.set_blocking(writing, waits)
    os.set_blocking(reading, False)
    output, lost_before, line = LogOutput(writing, lines_max=2), LOG_LINES_LOST._value.get(), "x" * PIPE + "\n"
    for _ in range(5):
        output.write(line)
    assert 2 <= LOG_LINES_LOST._value.get() - lost_before <= 3  # one may be in the thread's hands
    said = await read_until(reading, lambda text: text.count(b"\n") >= 2)
    assert {len(one) for one in said.splitlines()} == {PIPE}
    output.write("and on\n")
    await read_until(reading, lambda text: text.endswith(b"and on\n"))
    output.close()
    os.close(reading)
    os.close(writing)


async def read_until(file: int, done: Callable[[bytes], bool]) -> bytes:
    """What is written to this end's other, until it is enough."""
    said = bytearray()

    def is_enough() -> bool:
        with suppress(BlockingIOError):
            said.extend(os.read(file, PIPE))
        return done(bytes(said))

    await eventually(is_enough, within=20)
    return bytes(said)
