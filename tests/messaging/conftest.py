"""`clinic`: a database of messaging with one member and their care team, and handlers run as the runtime does."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.messaging.handlers.follow_contacts import follow_contacts
from services.messaging.handlers.follow_conversations import follow_conversations
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_visits import follow_visits
from services.messaging.subscriptions import TIMERS
from shared.commands import new_command
from shared.database import Connection, Database, open_database
from shared.events import CloudEvent
from shared.member_locks import lock_members
from shared.outcomes import Command, Outcomes
from shared.writing import write
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.published import published_events
from tests.fixtures.taken_timers import take_timers
from tests.messaging.given import MEMBER, NOW, contact, enrolled, team_assigned

OWN = {"visit": follow_visits, "message": follow_conversations, "alert": follow_conversations}


@dataclass
class Clinic:
    """Runs handlers in transactions of their own, members locked first; messaging then follows what they publish."""

    database: Database
    now: datetime = NOW
    published: list[Any] = field(default_factory=list)
    is_behind: bool = False
    """Its own events have not come back from Kafka yet."""
    _unread: list[CloudEvent] = field(default_factory=list)
    _commands: int = 0

    @asynccontextmanager
    async def transaction(self, *member_ids: UUID) -> AsyncIterator[Connection]:
        async with self.database.acquire() as connection, connection.transaction():
            await lock_members(connection, member_ids or [MEMBER])
            yield connection

    async def take(self, handler: Callable[..., Awaitable[Outcomes]], *events: CloudEvent) -> list[Any]:
        """Events into a handler; what it published, already followed by messaging itself as from the topic."""
        async with self.transaction(*{event.subject for event in events}) as connection:
            outcomes = await carry_out(handler, connection, events, now=self.now)
        return await self.follow(outcomes, scope=handler.__name__)

    async def command(
        self, handler: Callable[..., Awaitable[Any]], member_id: UUID = MEMBER, command_id: str = "", **values: Any
    ) -> Any:
        """A command's handler; its answer, a refusal too. What it published is followed as above."""
        command = self.new_command(handler.__name__, member_id, command_id)
        async with self.transaction(member_id) as connection:
            answer = await handler(connection, command=command, now=self.now, **values)
            await write(connection, getattr(answer, "outcomes", Outcomes()).writes)
        if hasattr(answer, "outcomes"):
            await self.follow(answer.outcomes, scope=command.name)
        return answer

    def new_command(self, name: str, member_id: UUID = MEMBER, command_id: str = "") -> Command:
        self._commands += 1
        identity = command_id or str(self._commands)
        return new_command(name, service="messaging", member_ids=[member_id], command_id=identity)

    async def follow(self, outcomes: Outcomes, *, scope: str) -> list[Any]:
        events = published_events(outcomes, service="messaging", scope=scope, now=self.now)
        self.published += events
        self._unread += events
        if not self.is_behind:
            await self.catch_up()
        return events

    async def catch_up(self) -> None:
        """Its own events come back."""
        self.is_behind = False
        while self._unread:
            event = self._unread.pop(0)
            await self.take(OWN[event.NAME.split(".")[0]], event)

    async def pass_time(self, span: timedelta) -> list[Any]:
        """Let the time pass, run every timer when it is due, in order; what was published meanwhile."""
        before, until = len(self.published), self.now + span
        while True:
            due_at = await self.database.fetchval("select min(due_at) from delivery.timers where due_at <= $1", until)
            if due_at is None:
                break
            self.now = max(self.now, due_at)
            await self.run_due()
        self.now = until
        return self.published[before:]

    async def run_due(self) -> None:
        """Run the timers that are due now, once, in one transaction."""
        handlers = {timer.kind: timer.run for timer in TIMERS}
        async with self.database.acquire() as connection, connection.transaction():
            claimed = await take_timers(connection, kinds=list(handlers), now=self.now)
            ran = [(t, await carry_out(handlers[t.kind], connection, [t], now=self.now)) for t in claimed]
        for timer, outcomes in ran:
            await self.follow(outcomes, scope=timer.kind)

    async def fetch(self, query: str, *values: Any) -> Sequence[Any]:
        return await self.database.fetch(query, *values)

    async def due_timers(self) -> dict[str, datetime]:
        return {row["kind"]: row["due_at"] for row in await self.fetch("select kind, due_at from delivery.timers")}


@pytest.fixture
async def bare_clinic(database: DatabaseFactory) -> AsyncIterator[Clinic]:
    """Nobody is known yet."""
    pool = await open_database(await database("messaging"), connections=8, application="test")
    try:
        yield Clinic(pool)
    finally:
        await pool.close()


@pytest.fixture
async def clinic(bare_clinic: Clinic) -> Clinic:
    """One enrolled member with a coach and a PT."""
    await bare_clinic.take(follow_members, enrolled(), team_assigned())
    await bare_clinic.take(follow_contacts, contact())
    return bare_clinic
