"""A page that may not have arrived is sent again, and somebody knows of one that waits or that nobody will get."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from deploy.local.mail_sink.server import MailSink
from services.notifications.domain.delivery import Accepted, AttemptResult, NoAnswer
from services.notifications.handlers.page_at_once import page_at_once
from services.notifications.sender import page_figures
from services.notifications.sender.mail import MailLine
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.notifications.conftest import Desk, published
from tests.notifications.house import open_house
from tests.notifications.journal import Clock, Journal

PAGED = "oncall@clinic.example"
MAILBOXES = {"oncall": PAGED}


def failed(reason: str) -> float:
    return REGISTRY.get_sample_value("careloop_pages_failed_total", {"reason": reason}) or 0.0


def waits_s() -> float | None:
    return REGISTRY.get_sample_value("careloop_page_oldest_seconds", {"service": "notifications"})


async def test_a_page_whose_result_nobody_knows_is_sent_again_a_minute_later(desk: Desk) -> None:
    ana = desk.member()
    await desk.take(page_at_once, ana.alert(uuid4()))
    first, _ = await desk.claim(mailboxes=MAILBOXES)
    assert published(await desk.record(first, NoAnswer())) == []
    desk.clock.at += timedelta(minutes=1)
    second, _ = await desk.claim(mailboxes=MAILBOXES)
    assert [(one.address, one.number) for one in second] == [(PAGED, 2)]
    assert published(await desk.record(first, NoAnswer())) == [], "an answer finds its own attempt"
    assert published(await desk.record(second, Accepted())) == [("notification.sent", "email")]


async def test_a_page_of_a_process_that_died_is_sent_by_the_next(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock, page_mailboxes=MAILBOXES) as house:
        await house.running.service.database.execute(
            """
            insert into notifications (notification_id, member_id, topic, template, about, params, page_role, state,
                channel, planned_at, not_before, stale_at, attempts, answer_by, cause)
            values (gen_random_uuid(), $1, 'safety-page', 'page', 'alert', $2, 'oncall', 'sending', 'email',
                $3::timestamptz, $3, $3::timestamptz + interval '1 day', 1, clock_timestamp(),
                '{"source": "a", "id": "b", "chain": "c"}')
            """,
            ana.member_id,
            {"alert_id": "a", "role": "oncall", "respond_by": clock.now().isoformat()},
            clock.now(),
        )

        async def is_planned() -> bool:
            return [row["state"] for row in await house.rows()] == ["planned"]

        await eventually(is_planned)
        clock.at += timedelta(minutes=1)
        await eventually(lambda: house.mail(PAGED), what="the page is in the mailbox")


async def test_a_role_without_a_mailbox_alarms(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock, before = Clock(), failed("no-address")
    async with open_house(run_service, sink, clock) as house:
        await publish("careloop.conversations", Journal(clock).alert(uuid4()))
        await eventually(lambda: failed("no-address") == before + 1)
        assert [row["reason"] for row in await house.rows()] == ["no-address"]


async def test_it_is_told_for_how_long_a_page_waits(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, begun, go_on = Clock(), asyncio.Event(), asyncio.Event()
    really_send = MailLine.send
    monkeypatch.setattr(page_figures, "TELL_EVERY_S", 0.05)

    async def send(self: MailLine, message: bytes, *, sender: str, to: str) -> AttemptResult:
        begun.set()
        await go_on.wait()
        return await really_send(self, message, sender=sender, to=to)

    monkeypatch.setattr(MailLine, "send", send)
    async with open_house(run_service, sink, clock, page_mailboxes=MAILBOXES):
        await eventually(lambda: waits_s() == 0.0)
        await publish("careloop.conversations", Journal(clock).alert(uuid4()))
        await asyncio.wait_for(begun.wait(), 30)
        clock.at += timedelta(seconds=90)
        await eventually(lambda: waits_s() == 90.0, what="a page waits")
        go_on.set()
        await eventually(lambda: waits_s() == 0.0, what="none waits")
