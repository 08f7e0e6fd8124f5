"""Many dead letters one after the other, a transaction each: at a rate, as a dry run, through failures of the world."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from deploy.dead_letters.listing import Filters, find_ids, newest_id
from shared.clock import Clock, monotonic
from shared.database import Connection, Database, is_transient
from shared.dead_letters import Bench, Step, discard, go_on, place_of, record_operation, replay
from shared.replaying import QUEUE_PAGE, QueueKey, Reader
from shared.telemetry import describe_bug

IDS_PAGE = 500
REST_AFTER = timedelta(minutes=1)
"""A queue that was left in the middle, at a rate or because this process died, is then gone on with by its service."""
DRY_RUN_S = 2.0
"""A dry run looks no longer at one queue: its service waits meanwhile for what that has locked, the member first."""
TRIES_MAX = 5
NOT_TRIED = "It could not be tried, and is as it was: {error}. See to that, then try it again."
HALFWAY = "What stands behind it could not all be taken: {error}. Its service goes on with the rest."
Action = Literal["replay", "discard"]
Act = Callable[[Connection, Bench], Awaitable[Step]]


class _RolledBack(Exception):
    """The end of a dry run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What an operator asked for."""

    action: Action
    who: str
    why: str
    filters: Filters = field(default_factory=Filters)
    held_id: int | None = None
    limit: int | None = None
    """Most dead letters tried."""
    rate: float | None = None
    """Most events a second."""
    dry_run: bool = False

    @property
    def chosen(self) -> Filters:
        """Never to be discarded unless it was asked for: the head of a queue that a replay left in the middle."""
        is_open = self.action == "discard" and self.filters.state is None
        return replace(self.filters, state="dead") if is_open else self.filters


@dataclass(slots=True)
class Done:
    """What became of one dead letter and of what stood behind it."""

    service: str
    held_id: int
    step: Step
    more: bool = False
    """A dry run ended before its queue did."""
    error: str | None = None
    """What this service could not get over, as type and place; what is done of its queue until then stays done."""

    @property
    def answer(self) -> str | None:
        """One sentence for the operator, where there is something to say."""
        if self.error is None:
            return self.step.answer
        return (HALFWAY if self.step.rest is not None else NOT_TRIED).format(error=self.error)

    def add(self, step: Step) -> None:
        """The next page of its queue."""
        self.step.fates += step.fates
        self.step.published += step.published
        self.step.rest = step.rest

    @property
    def failed(self) -> bool:
        is_stuck = self.step.result == "kept" and not any(
            fate.held_id == self.held_id and fate.outcome == "waiting" for fate in self.step.fates
        )
        return self.error is not None or is_stuck or any(fate.outcome == "dead" for fate in self.step.fates)


@dataclass(kw_only=True)
class Runner:
    """Works on the held events of one service."""

    service: str
    database: Database
    readers: Mapping[str, Reader]
    clock: Clock
    request: Request
    progress: Callable[[int], None] = lambda taken: None
    """Told how many events were taken."""
    _began: float = field(default_factory=monotonic)
    _taken: int = 0

    async def run(self) -> AsyncIterator[Done]:
        """Everything that is asked for, one after the other. Raises asyncpg errors where the database stays away."""
        tried = 0
        async for held_id in self._ids():
            if self.request.limit is not None and tried >= self.request.limit:
                return
            tried += 1
            yield await self._one(held_id)

    async def _ids(self) -> AsyncIterator[int]:
        if self.request.held_id is not None:
            yield self.request.held_id
            return
        async with self.database.acquire(timeout=30) as connection:
            until = await newest_id(connection)
        after = 0
        while True:
            async with self.database.acquire(timeout=30) as connection:
                found = await find_ids(connection, self.request.chosen, after=after, until=until, limit=IDS_PAGE)
            for held_id in found:
                yield held_id
            if len(found) < IDS_PAGE:
                return
            after = found[-1]

    async def _one(self, held_id: int) -> Done:
        """What one cannot get over is told with it, and costs the others nothing. Where the database itself does not
        answer any more, nothing can be told of any of them."""
        done = Done(self.service, held_id, Step())
        try:
            await (self._try if self.request.dry_run else self._all_pages)(done)
        except Exception as error:
            if not await self._is_answered():
                raise
            done.error = describe_bug(error)
            if self.request.dry_run or done.step.held is None:
                done.step = Step(result="kept")
        return done

    async def _is_answered(self) -> bool:
        try:
            async with self.database.acquire(timeout=30) as connection:
                await connection.execute("select 1")
        except Exception:
            return False
        return True

    async def _all_pages(self, done: Done) -> None:
        done.step = await self._patiently(partial(self._begin, done.held_id))
        await self._keep_to_the_rate(done.step.taken)
        while done.step.rest is not None:
            step = await self._patiently(partial(self._go_on, done.held_id, done.step.rest))
            done.add(step)
            await self._keep_to_the_rate(step.taken)

    async def _begin(self, held_id: int, connection: Connection, bench: Bench) -> Step:
        act = replay if self.request.action == "replay" else discard
        step = await act(connection, held_id, bench)
        if step.held is not None and not self.request.dry_run:
            result = "kept" if step.result == "kept" else f"{self.request.action}ed"
            await self._record(connection, {**place_of(step.held), "result": result, "taken": step.taken})
        return step

    async def _go_on(self, held_id: int, queue: QueueKey, connection: Connection, bench: Bench) -> Step:
        """The next page behind a held event, written down with it."""
        _, group, topic = queue
        step = await go_on(connection, queue, bench)
        what = {"held_id": held_id, "group": group, "topic": topic, "result": "went on", "taken": step.taken}
        await self._record(connection, what)
        return step

    async def _record(self, connection: Connection, details: Mapping[str, Any]) -> None:
        request = self.request
        action = f"dead-letters {request.action}"
        await record_operation(connection, who=request.who, action=action, why=request.why, details=details)

    async def _try(self, done: Done) -> None:
        """All pages in one transaction, which is rolled back."""
        deadline = monotonic() + DRY_RUN_S
        try:
            async with self.database.acquire(timeout=30) as connection, connection.transaction():
                bench = self._bench()
                done.step = await self._begin(done.held_id, connection, bench)
                while done.step.rest is not None and monotonic() < deadline:
                    done.add(await go_on(connection, done.step.rest, bench))
                done.more = done.step.rest is not None
                raise _RolledBack
        except _RolledBack:
            self._count(done.step.taken)

    async def _patiently(self, act: Act) -> Step:
        """One transaction; again a few times where the world fails, such as a lock that somebody else holds."""
        attempt = 1
        while True:
            try:
                async with self.database.acquire(timeout=30) as connection, connection.transaction():
                    return await act(connection, self._bench(attempt))
            except Exception as error:
                if not is_transient(error) or attempt == TRIES_MAX:
                    raise
            await asyncio.sleep(0.2 * attempt)
            attempt += 1

    def _bench(self, attempt: int = 1) -> Bench:
        """A page is half as long each time: what takes longer than a transaction may is not tried again as it is."""
        now, rate = self.clock.now(), self.request.rate
        page = QUEUE_PAGE if rate is None else int(rate)
        return Bench(
            readers=self.readers,
            service=self.service,
            now=now,
            page=max(1, page >> (attempt - 1)),
            rest_at=now + REST_AFTER,
        )

    def _count(self, taken: int) -> None:
        self._taken += taken
        self.progress(self._taken)

    async def _keep_to_the_rate(self, taken: int) -> None:
        self._count(taken)
        if self.request.rate is not None:
            await asyncio.sleep(max(0.0, self._taken / self.request.rate - (monotonic() - self._began)))
