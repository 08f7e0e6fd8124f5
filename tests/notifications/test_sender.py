"""What nobody may hold up: a page behind reminders, others behind one member, anything behind a process that ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.local.mail_sink.server import MailSink
from services.notifications.domain.delivery import AttemptResult, decide_delivery
from services.notifications.handlers import claim_sends
from services.notifications.sender import books, task
from services.notifications.sender.mail import MailLine
from services.notifications.store.notifications import start_attempts
from shared.database import Connection
from shared.ending import end_tasks
from shared.member_locks import LOCK_THESE
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.notifications.house import House, open_house
from tests.notifications.journal import Clock, Journal

PAGED = "oncall@clinic.example"
MAILBOXES = {"oncall": PAGED}
PROMPT_S = 5.0
"""A page takes a second; the rest is for a busy machine."""
REMIND = """
insert into notifications
    (notification_id, member_id, topic, template, about, params, planned_at, not_before, stale_at, cause)
select gen_random_uuid(), member_id, 'visit-reminder', 'visit-reminder', 'visit ' || number,
    jsonb_build_object('starts_at', $3::timestamptz), $3::timestamptz, $3::timestamptz,
    $3::timestamptz + interval '1 day', '{"source": "a", "id": "b", "chain": "c"}'
from unnest($1::uuid[]) as members(member_id), generate_series(1, $2) as number
"""


class Hold:
    """Mail to members stays on the line until it is let go; pages pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        really_send, hold = MailLine.send, self

        async def send(self: MailLine, message: bytes, *, sender: str, to: str) -> AttemptResult:
            if to != PAGED:
                hold.begun.set()
                await hold.go_on.wait()
            return await really_send(self, message, sender=sender, to=to)

        monkeypatch.setattr(MailLine, "send", send)


@asynccontextmanager
async def held_member(house: House, member_id: UUID) -> AsyncIterator[None]:
    """Somebody has this member's lock, for as long as they like."""
    connection = await asyncpg.connect(house.running.database_url)
    try:
        async with connection.transaction():
            await connection.execute(LOCK_THESE, [member_id])
            yield
    finally:
        await connection.close()


async def remind(house: House, members: Sequence[Journal], *, times: int = 1) -> None:
    """Reminders of visits that are due now."""
    ids = [one.member_id for one in members]
    await house.running.service.database.execute(REMIND, ids, times, house.clock.now())


async def states(house: House) -> list[str]:
    return sorted(row["state"] for row in await house.rows())


def sender_of() -> "asyncio.Task[Any]":
    (found,) = [one for one in asyncio.all_tasks() if one.get_name() == "sender"]
    return found


async def test_a_page_waits_for_no_reminder(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock, page_mailboxes=MAILBOXES) as house:
        await house.enrol(publish, ana)
        mail = Hold(monkeypatch)
        await remind(house, [ana], times=1_000)
        await asyncio.wait_for(mail.begun.wait(), 30)
        await publish("careloop.conversations", ana.alert(uuid4()))
        await eventually(lambda: house.mail(PAGED), within=PROMPT_S, what="the page is in the mailbox")
        assert len(house.mail()) == 1, "no reminder is"


async def test_a_page_waits_for_no_provider_that_is_tried_again(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is for reminders alone: it may be half a minute."""
    clock, really_connect, is_down = Clock(), MailLine._connect, asyncio.Event()
    ana = Journal(clock)

    async def connect(self: MailLine) -> Any:
        if not is_down.is_set():
            is_down.set()
            raise OSError
        return await really_connect(self)

    monkeypatch.setattr(MailLine, "_connect", connect)
    monkeypatch.setattr(task, "PROVIDER_DOWN_FIRST_S", 3_600.0)
    async with open_house(run_service, sink, clock, page_mailboxes=MAILBOXES, smtp_connections=1) as house:
        await house.enrol(publish, ana)
        await remind(house, [ana])
        await asyncio.wait_for(is_down.wait(), 30)
        await publish("careloop.conversations", ana.alert(uuid4()))
        await eventually(lambda: house.mail(PAGED), within=PROMPT_S, what="the page is in the mailbox")


async def test_whoever_holds_a_member_holds_up_no_page_and_nobody_else(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana, ben, cleo = (Journal(clock, email=f"{name}@example.org") for name in ("ana", "ben", "cleo"))
    async with open_house(run_service, sink, clock, page_mailboxes=MAILBOXES) as house:
        await house.enrol(publish, ana, ben)
        async with held_member(house, ana.member_id):
            await remind(house, [ana, ben])
            await publish("careloop.conversations", ana.alert(uuid4()), cleo.alert(uuid4()))
            await eventually(lambda: len(house.mail(PAGED)) == 2, within=PROMPT_S, what="both pages are there")
            await eventually(lambda: house.mail("ben"), within=PROMPT_S, what="ben's reminder is there")
            assert house.mail("ana") == []
        await eventually(lambda: house.mail("ana"), what="ana's reminder, once nobody holds her")
        await house.running.settled()
        assert len(house.mail()) == 4


async def test_a_result_that_cannot_be_written_yet_holds_up_no_other_and_is_kept(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ana, ben = Journal(clock), Journal(clock, email="ben@example.org")
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana, ben)
        mail = Hold(monkeypatch)
        await remind(house, [ana])
        await asyncio.wait_for(mail.begun.wait(), 30)
        async with held_member(house, ana.member_id):
            mail.go_on.set()
            await eventually(lambda: house.mail("ana"))
            await remind(house, [ben])
            await eventually(lambda: house.mail("ben"), within=PROMPT_S, what="ben's reminder is there")

            async def is_written() -> bool:
                return await states(house) == ["sending", "sent"]

            await eventually(is_written, within=PROMPT_S, what="ben's result is written, ana's is not")
        await house.running.settled()
        assert (await states(house), len(house.mail())) == (["sent", "sent"], 2)


async def test_what_a_bug_holds_up_holds_up_no_other(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ana, ben = Journal(clock), Journal(clock, email="ben@example.org")

    def decide(**given: Any) -> Any:
        if given["notification"].member_id == ana.member_id:
            raise ZeroDivisionError
        return decide_delivery(**given)

    monkeypatch.setattr(claim_sends, "decide_delivery", decide)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana, ben)
        await remind(house, [ana, ben])
        await eventually(lambda: house.mail("ben"), within=PROMPT_S, what="ben's reminder is there")


async def test_what_was_claimed_is_sent_though_the_next_cannot_be_claimed(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a bug because of which each is claimed by itself, when the database fails behind the first, then that one
    is sent: its attempt is written down, and nobody would make it later."""
    clock = Clock()
    ana, ben = Journal(clock), Journal(clock, email="ben@example.org")
    really_claim, alone = claim_sends.claim_sends, 0

    async def claim(connection: Connection, *, notification_ids: Sequence[UUID], **given: Any) -> Any:
        nonlocal alone
        if len(notification_ids) > 1:
            raise ZeroDivisionError
        alone += 1
        if alone == 2:
            raise TimeoutError
        return await really_claim(connection, notification_ids=notification_ids, **given)

    monkeypatch.setattr(books, "claim_sends", claim)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana, ben)
        await remind(house, [ana, ben])
        await eventually(lambda: house.mail("ana") and house.mail("ben"), within=PROMPT_S, what="both are reminded")
        assert alone > 1


async def test_stopping_gives_back_at_once_and_records_what_is_on_the_line(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is cancelled: whoever stops a process does so until it has ended."""
    clock = Clock()
    members = [Journal(clock, email=f"m{number}@example.org") for number in range(6)]
    async with open_house(run_service, sink, clock, smtp_connections=1) as house:
        database_url = house.running.database_url
        await house.enrol(publish, *members)
        mail = Hold(monkeypatch)
        await remind(house, members)
        await asyncio.wait_for(mail.begun.wait(), 30)
        sender = sender_of()
        stopping = asyncio.create_task(end_tasks([sender], within_s=8))

        async def is_given_back() -> bool:
            return await states(house) == ["planned"] * 5 + ["sending"]

        await eventually(is_given_back, within=PROMPT_S, what="what was not begun is given back")
        await eventually(lambda: sender.cancelling() > 2, within=PROMPT_S)
        mail.go_on.set()
        assert await stopping
        assert await states(house) == ["planned"] * 5 + ["sent"]
    async with open_house(run_service, sink, clock, database_url=database_url) as house:
        await eventually(lambda: len(house.mail()) == 6)
        await house.running.settled()
        assert len({one.recipients for one in house.mail()}) == 6


async def test_stopping_does_not_wait_for_ever_for_what_is_on_the_line(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What surely was not handed over is sent later; of what may have been, nobody knows."""
    clock = Clock()
    ana, ben = Journal(clock), Journal(clock, email="ben@example.org")
    on_the_line, stuck = set[str](), asyncio.Event()
    monkeypatch.setattr(task, "FINISH_S", 0.3)

    async def send(self: MailLine, message: bytes, *, sender: str, to: str) -> AttemptResult:
        self.handed_over = to.startswith("ben")
        on_the_line.add(to)
        await stuck.wait()
        raise AssertionError

    async with open_house(run_service, sink, clock, smtp_connections=2) as house:
        await house.enrol(publish, ana, ben)
        monkeypatch.setattr(MailLine, "send", send)
        await remind(house, [ana, ben])
        await eventually(lambda: len(on_the_line) == 2)
        assert await end_tasks([sender_of()], within_s=8)
        found = {row["member_id"]: row["state"] for row in await house.rows()}
        assert found == {ana.member_id: "planned", ben.member_id: "unknown"}


async def test_stopping_while_attempts_are_claimed_leaves_none_of_them_without_an_answer(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    ana = Journal(clock)
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def start(*given: Any, **named: Any) -> None:
        await start_attempts(*given, **named)
        if given[1]:
            claiming.set()
            await go_on.wait()

    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana)
        monkeypatch.setattr(claim_sends, "start_attempts", start)
        await remind(house, [ana])
        await asyncio.wait_for(claiming.wait(), 30)
        sender = sender_of()
        stopping = asyncio.create_task(end_tasks([sender], within_s=8))
        await eventually(lambda: sender.cancelling() > 1, within=PROMPT_S)
        go_on.set()
        assert await stopping
        assert (await states(house), house.mail()) == (["planned"], [])
