"""The live feed: in order, once, whatever is lost in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import orjson
import uvicorn

from services.messaging.main import build
from services.messaging.settings import MessagingSettings
from shared.clock import wall_now
from shared.events.catalogue import TOPICS
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.messaging.given import (
    COACH,
    MEMBER,
    STRANGER,
    enrolled,
    team_assigned,
)
from tests.messaging.service.clinic import Clinic, raise_spike


@dataclass
class Listener:
    """What a console window got."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    """(event, id, data)"""
    status: int = 0

    def changes(self) -> list[dict[str, Any]]:
        return [orjson.loads(data) for event, _, data in self.events if event == "change"]

    def last_id(self) -> str:
        return self.events[-1][1]

    async def listen(self, base: str, path: str, headers: dict[str, str]) -> None:
        async with (
            httpx.AsyncClient(base_url=base, timeout=httpx.Timeout(10, read=30)) as client,
            client.stream("GET", path, headers=headers) as response,
        ):
            self.status = response.status_code
            got: dict[str, str] = {}
            async for line in response.aiter_lines():
                if not line and got.get("event"):
                    self.events.append((got["event"], got.get("id", ""), got.get("data", "")))
                    self.ready.set()
                    got = {}
                name, _, value = line.partition(": ")
                if name in ("event", "id", "data"):
                    got[name] = value
            self.ready.set()


@asynccontextmanager
async def serving(running: RunningService) -> AsyncIterator[str]:
    """The app over a real socket: a stream does not pass through an in-process client piece by piece."""
    server = uvicorn.Server(
        uvicorn.Config(running.service.app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    )
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started, what="the socket is open")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await task


@asynccontextmanager
async def listening(
    base: str, token: str, *, path: str = "/v1/feed", after: str | None = None
) -> AsyncIterator[Listener]:
    listener = Listener()
    headers = {"Authorization": f"Bearer {token}", **({"Last-Event-ID": after} if after else {})}
    task = asyncio.create_task(listener.listen(base, path, headers))
    await asyncio.wait_for(listener.ready.wait(), 20)
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_feed_is_live_and_after_a_disconnect_tells_everything_missed_in_order_once(clinic: Clinic) -> None:
    token = clinic.coach
    async with serving(clinic.running) as base:
        async with listening(base, token) as window:
            assert (window.status, window.events[0][0]) == (200, "ready")
            alert = await raise_spike(clinic)

            def shown() -> bool:
                return any(c.get("alert_id") == alert["alert_id"] for c in window.changes())

            await eventually(shown, what="the window is told of the alert")
            last = window.last_id()
        for _ in range(3):
            await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.member, json={"text": "Hello"})
        await clinic.ask("POST", f"/v1/alerts/{alert['alert_id']}/acknowledge", token=token)

        async with listening(base, token, after=last) as window:

            def complete() -> bool:
                return any(c["change"] == "acknowledged" for c in window.changes())

            await eventually(complete, what="everything missed is told")
            ids = [int(number) for event, number, _ in window.events if event == "change"]
            assert ids == sorted(set(ids))
            assert min(ids) > int(last)
            assert [c["change"] for c in window.changes() if c["kind"] == "conversation"] == ["message"] * 3

        async with listening(base, clinic.tokens.coach(STRANGER.practitioner_id), path="/v1/feed?after=0") as stranger:
            assert (
                await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.member, json={"text": "?"})
            ).is_success
            async with listening(base, token, path="/v1/feed?after=999999") as ahead:
                assert ahead.events[0][0] == "reset"
            assert stranger.changes() == []


async def test_a_window_that_comes_back_goes_on_from_what_it_saw_last_not_from_where_it_began(clinic: Clinic) -> None:
    """A browser asks again under the address that it began with, and says what it saw last in a header."""
    async with serving(clinic.running) as base:
        for _ in range(2):
            await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.member, json={"text": "Hello"})
        async with listening(base, clinic.coach, path="/v1/feed?after=0") as window:
            await eventually(lambda: len(window.changes()) >= 2, what="it has seen both")
            last = window.last_id()
        async with listening(base, clinic.coach, path="/v1/feed?after=0", after=last) as window:
            assert window.events[0] == ("ready", last, last)


async def test_the_feed_ends_with_the_sign_in_and_has_a_limit(clinic: Clinic) -> None:
    brief = clinic.tokens.sign(
        sub=str(COACH.practitioner_id), roles=["coach"], name="Cora", exp=int(wall_now().timestamp()) + 2
    )
    async with serving(clinic.running) as base:
        async with listening(base, brief) as window:
            await eventually(lambda: window.events[-1][0] == "bye", what="the stream says that the sign-in ended")
            assert window.events[-1][2] == "sign-in ended"
        windows = [listening(base, clinic.coach) for _ in range(9)]
        opened = [await each.__aenter__() for each in windows]
        assert sorted(window.status for window in opened) == [200] * 8 + [429]
        for each in windows:
            await each.__aexit__(None, None, None)
        async with httpx.AsyncClient(base_url=base) as client:
            assert (await client.get("/v1/feed")).status_code == 401
            bearer = clinic.tokens.bearer(clinic.member)
            assert (await client.get("/v1/feed", headers=bearer)).status_code == 403


async def test_two_processes_and_no_valkey_lose_nothing(
    run_service: RunService, publish: Publish, topics: TopicFactory, tokens: Tokens, database: DatabaseFactory
) -> None:
    """One process writes, a window hangs on another, and Valkey cannot be reached by either."""
    await topics(*(topic.name for topic in TOPICS), partitions=2)
    values: dict[str, Any] = {"database_url": await database("messaging"), "valkey_url": "redis://127.0.0.1:1/0"}
    async with (
        run_service(build, MessagingSettings, name="messaging", **values) as one,
        run_service(build, MessagingSettings, name="messaging", **values) as two,
        serving(two) as base,
    ):
        await publish("careloop.members", enrolled(at=wall_now()), team_assigned(at=wall_now()))
        clinic = Clinic(one, tokens, publish)

        async def known() -> bool:
            path = f"/v1/members/{MEMBER}/messages"
            return (await clinic.ask("GET", path, token=clinic.coach)).status_code == 200

        await eventually(known, within=40, what="the care team is known")
        async with listening(base, clinic.coach) as window:
            sent = await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.member, json={"text": "Hi"})
            assert sent.status_code == 201

            def told() -> bool:
                return [c["change"] for c in window.changes() if c["kind"] == "conversation"] == ["message"]

            await eventually(told, within=15, what="the other process sees it within its poll")


async def test_a_window_lives_through_lost_database_connections(clinic: Clinic) -> None:
    """Every connection of the service is cut; the window connects again with its cursor and misses nothing."""
    async with serving(clinic.running) as base:
        async with listening(base, clinic.coach) as window:
            last = window.last_id()
        pool = clinic.running.service.database
        cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            await pool.fetch(cut)

        async def sent() -> bool:
            path = f"/v1/members/{MEMBER}/messages"
            return (await clinic.ask("POST", path, token=clinic.member, json={"text": "Still there?"})).is_success

        await eventually(sent, what="commands work again")
        async with listening(base, clinic.coach, after=last) as window:

            def told() -> bool:
                return any(c["kind"] == "conversation" for c in window.changes())

            await eventually(told, what="what was written after the cut is told")
            first, *_ = window.events
            assert first[0] == "ready"
