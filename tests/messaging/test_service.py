"""The whole service on real servers: events in, alerts out, over HTTP, live, within the limits of who may see whom."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest
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
    ONCALL,
    OTHER_MEMBER,
    PT,
    STRANGER,
    contact,
    enrolled,
    flagged,
    session,
    spiked,
    team_assigned,
)


@dataclass
class Clinic:
    """A running service with one member and their care team, and everybody's tokens."""

    running: RunningService
    tokens: Tokens
    publish: Publish

    async def ask(self, method: str, path: str, *, token: str, json: Any = None, **headers: str) -> httpx.Response:
        return await self.running.client.request(
            method, path, json=json, headers={**self.tokens.bearer(token), **headers}
        )

    @property
    def coach(self) -> str:
        return self.tokens.coach(COACH.practitioner_id, COACH.name)

    @property
    def member(self) -> str:
        return self.tokens.member(MEMBER)

    async def queue(self, token: str) -> list[dict[str, Any]]:
        answer = await self.ask("GET", "/v1/alerts", token=token)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture
async def clinic(
    run_service: RunService, publish: Publish, topics: TopicFactory, tokens: Tokens
) -> AsyncIterator[Clinic]:
    await topics(*(topic.name for topic in TOPICS), partitions=1)
    async with run_service(build, MessagingSettings, name="messaging") as running:
        await publish("careloop.members", enrolled(at=wall_now()), team_assigned(at=wall_now()))
        await publish("careloop.contacts", contact(at=wall_now()))
        clinic = Clinic(running, tokens, publish)

        async def known() -> bool:
            answer = await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=clinic.coach)
            named = await running.service.database.fetchval("select count(*) from member_contacts")
            return answer.status_code == 200 and named == 1

        await eventually(known, what="the care team and the name are known")
        yield clinic


async def chain(clinic: Clinic, correlationid: str, *types: str) -> list[dict[str, Any]]:
    """The chain once it holds all these types: what messaging publishes comes back to it from the topic."""

    async def complete() -> Any:
        path = f"/v1/members/{MEMBER}/chain?correlationid={correlationid}"
        events = (await clinic.ask("GET", path, token=clinic.coach)).json()["events"]
        assert set(types) <= {event["type"] for event in events}
        return events

    events: list[dict[str, Any]] = await eventually(complete, what=f"the chain holds {types}")
    return events


async def raise_spike(clinic: Clinic) -> dict[str, Any]:
    done = session(at=wall_now())
    spike = spiked(at=wall_now(), causationid=done.id, causationsource=done.source, correlationid=done.chain)
    await clinic.publish("careloop.activity", done)
    await clinic.publish("careloop.plans", spike)
    queue: list[dict[str, Any]] = await eventually(lambda: clinic.queue(clinic.coach), what="the coach has the alert")
    (alert,) = queue
    # From here on what is done about the alert names alert.raised as its cause; before it would name the spike.
    await chain(clinic, alert["correlationid"], "alert.raised")
    return alert


async def test_the_loop_from_a_spike_to_a_completed_visit(clinic: Clinic) -> None:
    alert = await raise_spike(clinic)
    assert (alert["summary"], alert["owner"]["name"], alert["status"]) == ("pain 7, usual 3", "Cora Coach", "open")
    path = f"/v1/alerts/{alert['alert_id']}"

    first = await clinic.ask("POST", f"{path}/acknowledge", token=clinic.coach)
    second = await clinic.ask("POST", f"{path}/acknowledge", token=clinic.tokens.pt(PT.practitioner_id, PT.name))
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.headers["content-type"] == "application/problem+json"
    assert second.json()["detail"] == "Acknowledged by Cora Coach."

    text = {"text": "Let us have a look together.", "alert_id": alert["alert_id"]}
    assert (
        await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.coach, json=text)
    ).status_code == 201
    slots = await clinic.ask(
        "GET", f"/v1/members/{MEMBER}/slots?practitioner_id={COACH.practitioner_id}", token=clinic.member
    )
    assert slots.status_code == 200, slots.text
    wanted = {
        "practitioner_id": str(COACH.practitioner_id),
        "starts_at": slots.json()["slots"][2]["starts_at"],
        "alert_id": alert["alert_id"],
    }
    held = await clinic.ask("POST", f"/v1/members/{MEMBER}/holds", token=clinic.coach, json=wanted)
    assert held.status_code == 201, held.text
    booking = {"hold_id": held.json()["visit_id"]}
    booked = await clinic.ask("POST", f"/v1/members/{MEMBER}/visits", token=clinic.coach, json=booking)
    assert (booked.status_code, booked.json()["status"], booked.json()["reason"]) == (201, "booked", "pain-spike")
    resolved = await clinic.ask("POST", f"{path}/resolve", token=clinic.coach, json={"outcome": "visit-booked"})
    assert resolved.json()["outcome"] == "visit-booked"
    assert await clinic.queue(clinic.coach) == []

    events = await chain(
        clinic, alert["correlationid"], "session.completed", "alert.acknowledged", "alert.resolved", "visit.booked",
        "message.sent",
    )  # fmt: skip
    by_id = {(event["source"], event["id"]): event["type"] for event in events}
    arrows = {(by_id.get((e["causationsource"], e["causationid"])), e["type"]) for e in events}
    assert arrows == {
        (None, "session.completed"),
        ("session.completed", "pain.spiked"),
        ("pain.spiked", "alert.raised"),
        ("alert.raised", "alert.acknowledged"),
        ("alert.raised", "message.sent"),
        ("alert.raised", "visit.booked"),
        ("alert.raised", "alert.resolved"),
    }


async def test_who_may_see_whom(clinic: Clinic) -> None:
    await raise_spike(clinic)
    tokens = clinic.tokens
    stranger, oncall = tokens.coach(STRANGER.practitioner_id), tokens.oncall(ONCALL.practitioner_id)
    alert_id = (await clinic.queue(clinic.coach))[0]["alert_id"]
    paths = (f"/v1/members/{MEMBER}/messages", f"/v1/members/{MEMBER}/visits", f"/v1/members/{MEMBER}/chain",
             f"/v1/members/{MEMBER}/alerts", f"/v1/alerts/{alert_id}")  # fmt: skip
    for path in paths:
        assert (await clinic.ask("GET", path, token=clinic.coach)).status_code == 200
        assert (await clinic.ask("GET", path, token=stranger)).status_code == 404
        assert (await clinic.ask("GET", path, token=oncall)).status_code == 404
        assert (await clinic.ask("GET", path, token=tokens.member(OTHER_MEMBER))).status_code in (403, 404)
        assert (await clinic.ask("GET", path, token=tokens.operator)).status_code == 403
        assert (await clinic.running.client.get(path)).status_code == 401
    for action in ("acknowledge", "resolve"):
        body = {"outcome": "referred"} if action == "resolve" else None
        answer = await clinic.ask("POST", f"/v1/alerts/{alert_id}/{action}", token=stranger, json=body)
        assert answer.status_code == 404
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=clinic.member)).status_code == 200
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/chain", token=clinic.member)).status_code == 403
    assert await clinic.queue(stranger) == []

    await clinic.publish("careloop.plans", flagged("emergency", "hot-swollen-joint", at=wall_now()))
    assert await eventually(lambda: clinic.queue(oncall), what="the emergency asks the on-call role")
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=oncall)).status_code == 200


async def test_a_message_is_sent_once_and_its_red_flags_are_answered_at_once(clinic: Clinic) -> None:
    path, key = f"/v1/members/{MEMBER}/messages", str(uuid4())
    text = {"text": "My knee is hot, red and swollen"}
    first = await clinic.ask("POST", path, token=clinic.member, json=text, **{"Idempotency-Key": key})
    again = await clinic.ask("POST", path, token=clinic.member, json=text, **{"Idempotency-Key": key})
    other = await clinic.ask("POST", path, token=clinic.member, json={"text": "Hi"}, **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert first.json() == again.json()
    assert "911" in first.json()["instruction"]
    assert first.json()["message"]["sender_name"] == "Marta Muster"
    read = await clinic.ask("GET", path, token=clinic.coach)
    assert [m["text"] for m in read.json()["messages"]] == [text["text"]]
    assert read.json()["read_up_to"] == 0
    put = await clinic.ask("PUT", f"{path}/read", token=clinic.coach, json={"number": 1})
    assert put.status_code == 200
    assert (await clinic.ask("PUT", f"{path}/read", token=clinic.coach, json={"number": 2})).status_code == 404
    assert (await clinic.ask("GET", path, token=clinic.coach)).json()["read_up_to"] == 1
    (alert,) = await clinic.queue(clinic.coach)
    assert (alert["kind"], alert["priority"]) == ("safety", "emergency")


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "  "}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "x" * 4001}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "a\x00b"}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "Hi", "more": 1}, "body.more"),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": "x", "starts_at": "2026-01-01T10:00:00Z"},
         "body.practitioner_id"),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": str(PT.practitioner_id),
         "starts_at": "2026-01-01T10:00:00"}, "body.starts_at"),
        ("PUT", "/v1/me/hours", {"time_zone": "America/New_York", "hours": [
            {"weekday": 1, "starts_at": "10:00", "ends_at": "09:00"}]}, "body.hours.0"),
        ("PUT", "/v1/me/hours", {"time_zone": "Mars/Olympus", "hours": []}, "body.time_zone"),
        ("POST", "/v1/me/absences", {"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "body"),
    ],
)  # fmt: skip
async def test_bad_input_names_the_field_and_changes_nothing(
    clinic: Clinic, method: str, path: str, body: Any, field: str
) -> None:
    answer = await clinic.ask(method, path, token=clinic.coach, json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


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
