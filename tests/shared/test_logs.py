"""Given a service that fails in many ways, then each line it writes is one JSON object without member data."""

import logging
from typing import Any

import httpx
import orjson
import pytest

from shared.telemetry import Repeats, _without_failure_texts
from tests.fixtures.eventually import eventually
from tests.fixtures.processes import ServiceProcess, SpawnService
from tests.shared.faulty_service import MARKER

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BUGS = ("route", "database", "task", "thread", "logged", "end")


async def provoke(process: ServiceProcess) -> None:
    # The server closes a connection after a failure: the next request must not be on its way there already.
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}", limits=fresh) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/health/live")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, what="the service answers")
        for bug in BUGS:
            answer = await client.get(f"/bugs/{bug}", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
            assert MARKER not in answer.text
        await client.get("/bugs/route")


@pytest.fixture
async def lines(spawn_service: SpawnService) -> list[dict[str, Any]]:
    process = spawn_service(
        "tests.shared.faulty_service", database_url="postgresql://nobody@127.0.0.1:1/nothing", log_level="DEBUG"
    )
    await process.start()
    await provoke(process)
    assert await process.terminate() == 0
    text = process.log.read_text()
    assert MARKER not in text
    return [orjson.loads(line) for line in text.splitlines()]  # of anything else: the line is named by the failure


async def test_every_line_is_json_and_a_failure_is_its_type_and_place(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert {"timestamp", "level", "event", "service"} <= line.keys(), line
        assert "\n" not in line["event"], line
    said = [line.get("error", "") for line in lines]
    assert any(error.startswith("RuntimeError at faulty_service.py:") for error in said)
    assert any(error.startswith("UniqueViolationError (23505, messages_pkey) at faulty_service.py:") for error in said)
    events = [line["event"] for line in lines]
    assert 'it said "no"' in events
    assert 'a "quoted" line\twith 2 odd\x00 characters' in events
    assert {"an own line with its failure", "a line of a library could not be written"} <= set(events)
    assert any(event.startswith("Task exception was never retrieved") for event in events)
    (unasked,) = [line for line in lines if line["event"] == "an own line with a failure as a value"]
    assert unasked["error"].startswith("RuntimeError at ")
    assert unasked["all"] == [unasked["error"]]


async def test_a_line_of_a_request_names_its_trace(lines: list[dict[str, Any]]) -> None:
    of_routes = [line for line in lines if line["event"] == "Exception in ASGI application"]
    assert [line.get("trace_id") for line in of_routes] == [TRACE, TRACE, None]
    assert {line.get("trace_id") for line in lines if line["event"] == "an own line with its failure"} == {TRACE}


def test_a_library_does_not_say_what_an_earlier_failure_said() -> None:
    """Given a failure while another one was handled, when a library quotes the first, then its text is left out."""
    try:
        try:
            raise ValueError(MARKER)
        except ValueError:
            raise RuntimeError("second")  # noqa: B904
    except RuntimeError as error:
        record = logging.LogRecord("library", logging.ERROR, __file__, 1, f"it failed: {MARKER}", (), None)
        entry = {"event": record.getMessage(), "_record": record, "exc_info": error}
        assert _without_failure_texts(None, "error", entry)["event"] == "it failed: ValueError"


def test_the_kafka_client_says_the_same_once_in_a_while_and_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    repeats, at = Repeats(), 0.0
    monkeypatch.setattr("shared.telemetry.monotonic", lambda: at)

    def said(name: str, text: str, *values: object) -> str | None:
        record = logging.LogRecord(name, logging.WARNING, __file__, 1, text, values, None)
        return record.getMessage() if repeats.filter(record) else None

    unable = "Unable to connect to node %s"
    assert [said("aiokafka.conn", unable, node) for node in (1, 2, 3)] == ["Unable to connect to node 1", None, None]
    assert said("aiokafka.cluster", "Topic %s is not available", "t") is not None
    assert [said("asyncio", unable, 1), said("asyncio", unable, 1)] == ["Unable to connect to node 1"] * 2
    at = 31.0
    assert said("aiokafka.conn", unable, 4) == "Unable to connect to node 4 (and 2 more like it)"
    at = 62.0
    assert said("aiokafka.conn", unable, 4) == "Unable to connect to node 4"
