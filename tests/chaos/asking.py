"""Asks the services over HTTP as the apps and the care team do: of whichever process is there, and again until an
answer says what became of it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from shared.clock import monotonic
from shared.events.vocabulary import Practitioner
from tests.chaos.faults import Service
from tests.chaos.world import READY_S, World

PATIENCE_S, PAUSE_S = 5.0, 0.2
"""How long a request may take, and how long after one that failed the next is sent."""
IN_FLIGHT = 32
"""Requests at once. With hundreds the client itself, which looks at each whenever one moves on, takes a processor, and
on a busy machine nothing is answered in time any more."""
NOT_SENT = httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout


@dataclass(frozen=True)
class Answer:
    """`unknown`: how many tries before it may have done it without saying so."""

    status: int
    body: Any
    unknown: int

    @property
    def reason(self) -> str:
        """Of a refusal: its code."""
        return code_of(self.body) if isinstance(self.body, dict) else ""


def code_of(problem: Mapping[str, Any]) -> str:
    return str(problem.get("type", "")).rpartition(":")[2]


class Asker:
    def __init__(self, world: World) -> None:
        self._world, self._turn = world, 0
        self._client = httpx.AsyncClient(timeout=PATIENCE_S, verify=False)
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def ask(
        self, service: Service, method: str, path: str, *, token: str, headers: Mapping[str, str] | None = None,
        **what: Any,
    ) -> Answer:  # fmt: skip
        """The first answer that is definite. TimeoutError when none comes for very long; it says what came instead."""
        unknown, until, instead = 0, monotonic() + READY_S, Counter[str]()
        asked = {**what, "headers": {"Authorization": f"Bearer {token}", **(headers or {})}}
        while monotonic() < until:
            async with self._room:
                answer = await self._try(service, method, path, asked)
            if isinstance(answer, httpx.Response) and answer.status_code < 500:
                return Answer(answer.status_code, answer.json() if answer.content else None, unknown)
            unknown += not isinstance(answer, NOT_SENT)
            instead[str(answer.status_code) if isinstance(answer, httpx.Response) else type(answer).__name__] += 1
            await asyncio.sleep(PAUSE_S)
        raise TimeoutError(f"{service} gives no answer to {method}: {dict(instead)}")

    async def _try(
        self, service: Service, method: str, path: str, asked: Mapping[str, Any]
    ) -> httpx.Response | httpx.TransportError:
        """Of one of its processes; what came instead of an answer."""
        processes = self._world.crews[service].processes
        if not processes:
            return httpx.ConnectError("no process")
        self._turn += 1
        port = processes[self._turn % len(processes)].port
        try:
            return await self._client.request(method, f"http://127.0.0.1:{port}{path}", **asked)
        except httpx.TransportError as error:
            return error

    def member(self, member_id: UUID) -> str:
        return self._world.tokens.member(member_id)

    def operator(self) -> str:
        return self._world.tokens.operator

    def app(self) -> str:
        return self._world.tokens.app

    def clinician(self, who: Practitioner) -> str:
        return self._world.tokens.person(who.practitioner_id, who.role, name=who.name)

    async def close(self) -> None:
        await self._client.aclose()
