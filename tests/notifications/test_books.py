"""What became of an attempt is known nowhere but in its process, until that has written it down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from services.notifications.domain.delivery import Accepted, NotNow
from services.notifications.handlers.claim_sends import Attempt
from services.notifications.handlers.page_at_once import page_at_once
from services.notifications.sender.books import Books
from tests.notifications.conftest import Desk
from tests.notifications.test_channels import settings

MAILBOXES: Any = {"oncall": "oncall@clinic.example"}


@pytest.fixture
def pages(desk: Desk) -> Books:
    """The books of a process that sends pages."""
    service = SimpleNamespace(
        name="notifications", safety=desk.database, clock=desk.clock, committed=lambda *_, **__: None
    )
    return Books(cast(Any, service), settings(page_mailboxes=MAILBOXES), name="pager", pages=True)


async def claim_page(desk: Desk, pages: Books) -> Attempt:
    await desk.take(page_at_once, desk.member().alert(uuid4()))
    _, (attempt,) = await pages.claim()
    return attempt


async def states(desk: Desk) -> list[str]:
    return [row["state"] for row in await desk.rows()]


@asynccontextmanager
async def held_rows(desk: Desk) -> AsyncIterator[None]:
    """Somebody is changing each notification."""
    async with desk.database.acquire() as connection, connection.transaction():
        await connection.execute("select from notifications for update")
        yield


async def test_a_result_whose_row_somebody_holds_is_kept_and_written_later(desk: Desk, pages: Books) -> None:
    """Else the attempt would be given up, and a page that has arrived be sent again."""
    pages.note(await claim_page(desk, pages), Accepted())
    async with held_rows(desk):
        await pages.record()
    assert (await states(desk), pages.is_complete) == (["sending"], False)
    await pages.record()
    assert (await states(desk), pages.is_complete) == (["sent"], True)


async def test_who_knows_the_result_does_not_give_the_attempt_up(desk: Desk, pages: Books) -> None:
    """Given a result that could not be written by the time by which it should be, then it is written as it is."""
    pages.note(await claim_page(desk, pages), NotNow(code="smtp-451"))
    async with held_rows(desk):
        await pages.record()
    await desk.answer_is_overdue()
    await pages.give_up_unanswered()
    assert await states(desk) == ["sending"]
    await pages.record()
    assert [(row["state"], row["last_error"]) for row in await desk.rows()] == [("planned", "smtp-451")]


async def test_of_many_pages_the_one_that_was_asked_for_first_goes_out_first(desk: Desk, pages: Books) -> None:
    """However many come behind it: what comes does not pass what waits."""
    pages.batch = 1
    for _ in range(3):
        await desk.take(page_at_once, desk.member().alert(uuid4()))
        desk.clock.at += timedelta(seconds=1)
    claimed = [attempt.notification.notification_id for _ in range(3) for attempt in (await pages.claim())[1]]
    assert claimed == [row["notification_id"] for row in await desk.rows()]
