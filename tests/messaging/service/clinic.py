"""A running messaging service with one member and their care team, for tests of the whole service."""

from dataclasses import dataclass
from typing import Any

import httpx

from shared.clock import wall_now
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.fixtures.tokens import Tokens
from tests.messaging.given import (
    COACH,
    MEMBER,
    session,
    spiked,
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
