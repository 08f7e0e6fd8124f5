"""What the inbox knows of events, asked for many requests at once: while one question is under way the next gather."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import asyncpg

from shared.http import Problem
from shared.inbox import Found, find_outcomes
from shared.service import Service

Ref = tuple[str, str]
"""(source, id) of an event."""
GROUP: Final = "plans.activity"
ASK_S: Final = 1.0
"""How long the ingress, which needs only Kafka, asks the database."""


class KnownEvents:
    """One per process. A question a request would cost more than all else that the request does."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._gathered: set[Ref] = set()
        self._answer: asyncio.Future[Mapping[Ref, Found]] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def find(self, refs: Iterable[Ref]) -> Mapping[Ref, Found]:
        """How these events ended where they were taken, perhaps with others; nothing where the database does not answer
        in time."""
        self._gathered.update(refs)
        answer = self._answer = self._answer or asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        while self._answer is not None:
            refs, answer = list(self._gathered), self._answer
            self._gathered, self._answer = set(), None
            try:
                found = await self._find(refs)
            except Exception as error:
                answer.set_exception(error)
            else:
                answer.set_result(found)

    async def _find(self, refs: list[Ref]) -> Mapping[Ref, Found]:
        with suppress(Problem, TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # The pool's own limits would take a task each.
            async with asyncio.timeout(ASK_S), self._service.requests.acquire() as connection:
                return await find_outcomes(connection, group=GROUP, events=refs)
        return {}
