"""`desk`: the handlers and the store of notifications on a real database, without the broker around them. `sink`,
`streams`: what a running service needs besides (house.py)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from services.notifications.handlers.claim_sends import Attempt, claim_sends
from services.notifications.handlers.record_sends import Answer, record_sends
from services.notifications.store.notifications import find_due
from services.notifications.subscriptions import TIMERS
from shared.database import Database, open_database
from shared.events import CloudEvent
from shared.events.catalogue import TOPICS
from shared.member_locks import lock_members
from shared.outcomes import Outcomes
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.taken_timers import take_timers
from tests.fixtures.topics import TopicFactory
from tests.notifications.journal import Clock, Journal

# A machine that does other work is no failure of a rule.
ANSWER_WITHIN = timedelta(seconds=90)


@dataclass
class Desk:
    database: Database
    clock: Clock

    def member(self, **fields: Any) -> Journal:
        return Journal(self.clock, **fields)

    async def take(self, handler: Callable[..., Awaitable[Outcomes]], *events: CloudEvent) -> Outcomes:
        """One chunk: members locked, the handler, commit."""
        async with self.database.acquire() as connection, connection.transaction():
            await lock_members(connection, [event.subject for event in events])
            return await carry_out(handler, connection, list(events), now=self.clock.now())

    async def run_timers(self) -> int:
        """Run what is due now, as the runtime does; how many timers."""
        handlers = {timer.kind: timer.run for timer in TIMERS}
        async with self.database.acquire() as connection, connection.transaction():
            due = await take_timers(connection, kinds=list(handlers), now=self.clock.now())
            for kind in handlers:
                mine = [timer for timer in due if timer.kind == kind]
                if mine:
                    await carry_out(handlers[kind], connection, mine, now=self.clock.now())
        return len(due)

    async def claim(self, **options: Any) -> tuple[list[Attempt], Outcomes]:
        """Find what is due and claim it."""
        values = {"channels": frozenset({"email"}), "mailboxes": {}, "answer_within": ANSWER_WITHIN, **options}
        async with self.database.acquire() as connection, connection.transaction():
            due = [
                one
                for pages in (True, False)
                for one in await find_due(connection, pages=pages, now=self.clock.now(), limit=1_000)
            ]
            await lock_members(connection, [member_id for _, member_id in due])
            ids = [one for one, _ in due]
            claimed = await claim_sends(connection, notification_ids=ids, now=self.clock.now(), **values)
        return claimed.attempts, claimed.outcomes

    async def record(self, attempts: Sequence[Attempt], result: Any) -> Outcomes:
        answers = [
            Answer(
                notification_id=one.notification.notification_id,
                member_id=one.notification.member_id,
                attempt=one.number,
                result=result,
            )
            for one in attempts
        ]
        async with self.database.acquire() as connection, connection.transaction():
            await lock_members(connection, [one.notification.member_id for one in attempts])
            return (await record_sends(connection, answers=answers, now=self.clock.now())).outcomes

    async def rows(self, member_id: UUID | None = None) -> list[dict[str, Any]]:
        """Notifications in the order planned."""
        query = "select * from notifications where $1::uuid is null or member_id = $1 order by planned_at, about"
        return [dict(row) for row in await self.database.fetch(query, member_id)]

    async def timers(self, kind: str = "reminder.session") -> list[datetime]:
        """When timers of a kind are due, in order."""
        query = "select due_at from delivery.timers where kind = $1 order by due_at"
        return [row["due_at"] for row in await self.database.fetch(query, kind)]

    async def answer_is_overdue(self) -> None:
        """As if the time to answer had passed: the process that was sending is gone."""
        await self.database.execute("update notifications set answer_by = clock_timestamp() where state = 'sending'")


def published(outcomes: Outcomes) -> list[tuple[str, str]]:
    """(event, reason or channel) of what a handler published."""
    return [
        (draft.event.NAME, str(getattr(draft.data, "reason", None) or getattr(draft.data, "channel", "")))
        for draft in outcomes.published
    ]


@pytest.fixture
async def desk(database: DatabaseFactory) -> AsyncIterator[Desk]:
    pool = await open_database(await database("notifications"), connections=4, application="test")
    try:
        yield Desk(pool, Clock())
    finally:
        await pool.close()


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    async with MailSink(MailSinkSettings(smtp_port=0, port=0, data=tmp_path / "mail")) as sink:
        yield sink


@pytest.fixture
async def streams(topics: TopicFactory) -> None:
    await topics(*(topic.name for topic in TOPICS), partitions=1)
