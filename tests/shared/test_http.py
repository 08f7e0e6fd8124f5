"""Refusals are problem details that name fields and hold no values; bodies have a limit."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field, SecretStr

from shared.http import BODY_SIZE_MAX, Problem, install_problems
from shared.service import Service, run
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually


class Answers(BaseModel):
    pain: Annotated[int, Field(ge=0, le=10)]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_problems(app)

    @app.post("/answers")
    async def answer(answers: Answers) -> dict[str, int]:
        return {"pain": answers.pain}

    @app.post("/v1/members/{member_id}/answers")
    async def answer_of(member_id: str, answers: Answers) -> dict[str, int]:
        return {"pain": answers.pain}

    @app.get("/refused")
    async def refuse() -> None:
        raise Problem(409, "taken", "It is taken.", headers={"Retry-After": "3"}, holder="somebody")

    @app.get("/broken")
    async def break_down() -> None:
        raise RuntimeError("secret value 123")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_a_field_is_named_without_its_value(client: httpx.AsyncClient) -> None:
    answer = await client.post("/answers", json={"pain": 4711})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == ["body.pain"]
    assert "4711" not in answer.text


async def test_refusals_bugs_and_unknown_paths_are_problems(client: httpx.AsyncClient) -> None:
    refused = await client.get("/refused")
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "3")
    assert refused.json()["type"] == "urn:careloop:problem:taken"
    assert refused.json()["holder"] == "somebody"
    broken = await client.get("/broken")
    assert broken.status_code == 500
    assert "123" not in broken.text
    assert (await client.get("/nowhere")).json()["status"] == 404


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient, in_pieces: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_SIZE_MAX // 65_536 + 2):
            yield b" " * 65_536

    content = pieces() if in_pieces else b" " * (BODY_SIZE_MAX + 1)
    answer = await client.post("/answers", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["imports", "events", "v1%2Fevents"])
async def test_no_name_in_a_path_lifts_the_limit(client: httpx.AsyncClient, name: str) -> None:
    """A route that reads no body by itself has all of it read before anybody is asked who sends it."""
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b" " * 65_536

    path = f"/v1/members/{name}/answers"
    answer = await client.post(path, content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code in (404, 413)
    assert sent <= BODY_SIZE_MAX // 65_536 + 1


async def test_a_body_within_the_limit_is_read_whole(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"pain":'
        yield b" " * 100_000
        yield b"7}"

    answer = await client.post("/answers", content=pieces(), headers={"content-type": "application/json"})
    assert answer.json() == {"pain": 7}


async def test_while_too_many_requests_are_under_way_the_process_still_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a connection that asks for nothing count, as it does for the server's own limit: whoever opens enough of
    them would have the process restarted, and with it all that it takes from Kafka."""
    monkeypatch.setattr("shared.http.REQUESTS_MAX", 2)
    going_on, begun = asyncio.Event(), list[int]()
    router = APIRouter()

    @router.get("/waits")
    async def wait() -> None:
        begun.append(1)
        await going_on.wait()

    settings = ServiceSettings(database_url=SecretStr("postgresql://nobody"), port=0)
    service = Service(name="probe", settings=settings, routers=[router])
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as asking:
        waiting = [asyncio.create_task(asking.get("/waits")) for _ in range(2)]
        await eventually(lambda: len(begun) == 2, what="two requests are under way")
        refused = await asking.get("/waits")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["type"] == "urn:careloop:problem:busy"
        assert (await asking.get("/health/live")).status_code == 200
        going_on.set()
        assert [(await one).status_code for one in waiting] == [200, 200]
        assert (await asking.get("/waits")).status_code == 200
    served: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda _, **options: served.update(options))
    monkeypatch.setattr("shared.service.configure_logs", lambda *_, **__: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    run(service)
    assert served["port"] == 0
    assert "limit_concurrency" not in served


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError(), 503),
        (ConnectionResetError(), 503),
        (asyncpg.ReadOnlySQLTransactionError(), 503),
        (asyncpg.InvalidPasswordError(), 503),
        (asyncpg.CannotConnectNowError(), 503),
        (FileNotFoundError(), 500),
        (asyncpg.UndefinedTableError(), 500),
        (KeyError(), 500),
    ],
    ids=lambda value: None if isinstance(value, int) else type(value).__name__,
)
async def test_whoever_asks_a_service_is_told_whether_to_ask_again(error: Exception, status: int) -> None:
    """What the world brings about may be over in a moment; a bug is not."""
    router = APIRouter()

    @router.get("/fails")
    async def fail() -> None:
        raise error

    settings = ServiceSettings(database_url=SecretStr("postgresql://nobody"), port=0)
    service = Service(name="probe", settings=settings, routers=[router])
    transport = httpx.ASGITransport(app=service.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test") as asking:
        answer = await asking.get("/fails")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in answer.headers) == (status == 503)
