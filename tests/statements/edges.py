"""Where events come in and go out: the apps' ingress over HTTP, the relay, and what is sent to members."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from services.notifications.domain.delivery import Accepted
from services.notifications.handlers.claim_sends import claim_sends
from services.notifications.handlers.record_sends import Answer, record_sends
from services.notifications.store.notifications import find_due
from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.database import Database
from shared.ending import end_tasks
from shared.events import VisitBooked
from shared.member_locks import claim_members
from shared.outbox import OutboxRow, inserting_rows, write_outcomes
from shared.partitioning import key_of
from shared.relay import Outflow
from shared.settings import ServiceSettings
from shared.writing import write
from tests.fixtures.eventually import eventually
from tests.fixtures.tokens import Tokens
from tests.statements.chunks import Desk
from tests.statements.counting import Counted, bare, transaction
from tests.statements.held import SESSION, told
from tests.statements.story import up_to
from tests.statements.timers import FIRST_OF_EACH, run_due

ROUND = 2
"""What a round of the relay may send: it deletes what was acknowledged, and reads."""


@dataclass
class At:
    """A clock that stands still."""

    at: datetime

    def now(self) -> datetime:
        return self.at


@asynccontextmanager
async def counting_all(database: Database) -> AsyncIterator[Counted]:
    """What both connections of a pool of two send."""
    counted = Counted()
    async with database.acquire() as one, database.acquire() as other:
        watched = [bare(one), bare(other)]
    for connection in watched:
        connection.add_query_logger(counted.note)
    try:
        yield counted
        await asyncio.sleep(0)  # the driver tells in the next turn of the loop
    finally:
        for connection in watched:
            connection.remove_query_logger(counted.note)


async def count_rounds(settings: ServiceSettings, database: Database, numbers: Sequence[int]) -> Counted:
    """The most expensive round in which a relay hands over one event of each of these members. The topic exists."""
    rows = [
        OutboxRow("careloop.activity", one.member_id, one.value, key_of(one.member_id).hash)
        for one in told(SESSION, numbers)
    ]
    outflow = Outflow(settings, database, urgent=False, is_leading=lambda: True)
    most = Counted()
    try:
        await write(database, [inserting_rows(rows)])
        while await database.fetchval("select exists (select from delivery.outbox)"):
            outflow.wake()  # else it reads as well as deletes only where a round took long
            async with counting_all(database) as counted:
                await outflow._round()
            most = max(most, counted, key=lambda one: one.total)
    finally:
        await outflow.close()
    return most


@asynccontextmanager
async def open_ingress(settings: PlansSettings, database: Database, tokens: Tokens) -> AsyncIterator[httpx.AsyncClient]:
    """The routes of plans with its publisher and nothing else that would ask the database."""
    service = build(settings)
    service.clock = At(SESSION.time)
    service._requests = database
    service.app.state.authenticator = tokens.authenticator()
    publisher = service.app.state.publisher
    running = asyncio.create_task(publisher.run())
    transport = httpx.ASGITransport(app=service.app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://plans.test") as client:
            await eventually(lambda: publisher._producer, what="the publisher has started")
            yield client
    finally:
        await end_tasks([running], within_s=5)


async def count_request(
    client: httpx.AsyncClient, tokens: Tokens, database: Database, numbers: Sequence[int], *, batch: bool
) -> Counted:
    """What a request with one event of each of these members asks the database."""
    values = [one.value for one in told(SESSION, numbers)]
    body = b"[" + b",".join(values) + b"]" if batch else values[0]
    kind = "application/cloudevents-batch+json" if batch else "application/cloudevents+json"
    async with counting_all(database) as counted:
        answer = await client.post(
            "/v1/events", content=body, headers={**tokens.bearer(tokens.app), "content-type": kind}
        )
    assert answer.status_code == 202, answer.text
    results: list[Any] = answer.json()["results"] if batch else [answer.json()]
    assert [one["status"] for one in results] == ["accepted"] * len(numbers)
    return counted


async def count_sends(desk: Desk, numbers: Sequence[int]) -> tuple[Counted, Counted]:
    """What it sends to claim a message for each of these members, and to record that a provider took it."""
    await desk.live(up_to(VisitBooked), numbers)
    await desk.database.execute("delete from notifications")
    await desk.database.execute(FIRST_OF_EACH)
    due_at = await desk.database.fetchval("select max(due_at) from delivery.timers where kind = 'reminder.visit'")
    await run_due(desk, "reminder.visit", now=due_at)
    async with transaction(desk.database) as (connection, claiming):
        due = await find_due(connection, pages=False, now=due_at, limit=1_000)
        await claim_members(connection, [member_id for _, member_id in due], limit=1_000)
        claimed = await claim_sends(
            connection, notification_ids=[one for one, _ in due], channels=frozenset({"email"}), mailboxes={},
            answer_within=timedelta(minutes=5), now=due_at,
        )  # fmt: skip
        await write_outcomes(connection, claimed.outcomes, service=desk.service, scope="claim", now=due_at)
    assert len(claimed.attempts) == len(numbers)
    answers = [
        Answer(
            notification_id=one.notification.notification_id,
            member_id=one.notification.member_id,
            attempt=one.number,
            result=Accepted(),
        )
        for one in claimed.attempts
    ]
    async with transaction(desk.database) as (connection, recording):
        await claim_members(connection, [one.notification.member_id for one in claimed.attempts], limit=1_000)
        recorded = await record_sends(connection, answers=answers, now=due_at)
        await write_outcomes(connection, recorded.outcomes, service=desk.service, scope="record", now=due_at)
    return claiming, recording
