"""The whole service on a real broker and database, its mail in a real mailbox; and what a killed sender leaves."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from deploy.local.ports import choose_port
from services.notifications.domain.delivery import AttemptResult
from services.notifications.domain.text_signatures import text_signature
from services.notifications.sender.mail import MailLine
from services.notifications.settings import NotificationsSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunService
from tests.fixtures.tokens import Tokens
from tests.notifications.house import House, open_house
from tests.notifications.journal import MONDAY_8, Clock, Journal

EVENING = MONDAY_8 + timedelta(hours=10, minutes=20)


async def test_a_reminder_goes_out_and_the_next_is_cancelled_by_the_session(
    run_service: RunService, streams: None, publish: Publish, consume: Consume, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana)
        await house.running.settled()
        assert house.mail() == []

        clock.at = EVENING
        await eventually(house.mail, what="the reminder is in the mailbox")
        await house.running.settled()
        (mail,) = house.mail()
        assert (mail.recipients, mail.subject) == ("ana@example.org", "Your exercise session today")
        assert mail.sent_at == EVENING.isoformat(), "clinic time"
        (event,) = await consume("careloop.notifications", count=1)
        assert event["type"] == "org.careloop.notification.sent.v1"
        assert event["subject"] == str(ana.member_id)
        assert event["data"] == {
            "notification_id": mail.message_id.split("@")[0].strip("<"), "topic": "session-reminder",
            "channel": "email", "template": "session-reminder",
        }  # fmt: skip

        clock.at = EVENING + timedelta(days=2) - timedelta(hours=3)
        await publish("careloop.activity", ana.session())
        await house.running.settled()
        clock.at = EVENING + timedelta(days=2)
        await house.running.settled()
        assert len(house.mail()) == 1, "Wednesday's session was done"


async def test_an_event_that_comes_twice_sends_once(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana)
        milestone = ana.milestone()
        await publish("careloop.plans", milestone, milestone, ana.milestone())
        await publish("careloop.plans", milestone)
        await eventually(house.mail)
        await house.running.settled()
        assert len(house.mail()) == 1


class Killed(BaseException):
    """As if the process had died here."""


@pytest.mark.parametrize("handed_over", [True, False])
async def test_a_sender_killed_between_attempt_and_result_never_sends_twice(
    run_service: RunService, streams: None, publish: Publish, consume: Consume, sink: MailSink,
    monkeypatch: pytest.MonkeyPatch, handed_over: bool,
) -> None:  # fmt: skip
    """Whether the mail server had it or not, nobody knows afterwards: it is told as unknown and not sent again."""
    clock = Clock()
    ana, ben = Journal(clock), Journal(clock, email="ben@example.org")
    reached = asyncio.Event()
    really_send = MailLine.send

    async def die(self: MailLine, message: Any, *, sender: str, to: str) -> AttemptResult:
        if handed_over:
            await really_send(self, message, sender=sender, to=to)
        reached.set()
        raise Killed

    monkeypatch.setattr(MailLine, "send", die)
    async with open_house(run_service, sink, clock) as house:
        database_url = house.running.database_url
        await house.enrol(publish, ana)
        await publish("careloop.plans", ana.milestone())
        await asyncio.wait_for(reached.wait(), 90)
        assert [row["state"] for row in await house.rows()] == ["sending"], (
            "the attempt was recorded before it was made"
        )
    monkeypatch.undo()

    async with open_house(run_service, sink, clock, database_url=database_url) as house:
        await house.enrol(publish, ben)
        await publish("careloop.plans", ben.milestone())
        await eventually(lambda: house.mail("ben"), what="the next sender works")
        assert [row["state"] for row in await house.rows() if row["member_id"] == ana.member_id] == ["sending"]
        await house.running.service.database.execute(
            "update notifications set answer_by = clock_timestamp() where state = 'sending'"
        )

        async def given_up() -> bool:
            return [row["state"] for row in await house.rows() if row["member_id"] == ana.member_id] == ["unknown"]

        await eventually(given_up)
        await house.running.settled()
        assert len(house.mail("ana")) == (1 if handed_over else 0)
    events = await consume("careloop.notifications", count=2)
    told = {event["subject"]: event["data"].get("reason") for event in events}
    assert told == {str(ana.member_id): "unknown-result", str(ben.member_id): None}


async def test_stopping_finishes_what_is_on_the_line_and_gives_back_the_rest(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    members = [Journal(clock, email=f"m{number}@example.org") for number in range(6)]
    begun, go_on = asyncio.Event(), asyncio.Event()
    really_send = MailLine.send

    async def slowly(self: MailLine, message: Any, *, sender: str, to: str) -> AttemptResult:
        begun.set()
        await go_on.wait()
        return await really_send(self, message, sender=sender, to=to)

    async with open_house(run_service, sink, clock, smtp_connections=1) as house:
        database_url = house.running.database_url
        await house.enrol(publish, *members)
        monkeypatch.setattr(MailLine, "send", slowly)
        await publish("careloop.plans", *(one.milestone() for one in members))
        await asyncio.wait_for(begun.wait(), 30)
        (sender,) = [task for task in asyncio.all_tasks() if task.get_name() == "sender"]
        sender.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(sender, return_exceptions=True)
        states = [row["state"] for row in await house.rows()]
        assert "sending" not in states, "nothing was left without an answer"
        assert states.count("sent") == len(house.mail()) == 1
    monkeypatch.undo()
    async with open_house(run_service, sink, clock, database_url=database_url) as house:
        await eventually(lambda: len(house.mail()) == 6)
        await house.running.settled()
        assert len({mail.recipients for mail in house.mail()}) == 6


async def test_mail_waits_for_a_server_that_is_down(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, tmp_path: Path
) -> None:
    clock = Clock()
    ana = Journal(clock)
    port = choose_port()
    async with open_house(run_service, sink, clock, smtp_port=port) as house:
        await house.enrol(publish, ana)
        await publish("careloop.plans", ana.milestone())

        async def refused() -> bool:
            return any(row["last_error"] == "smtp-unreachable" for row in await house.rows())

        await eventually(refused)
        async with MailSink(MailSinkSettings(smtp_port=port, port=0, data=tmp_path / "other")) as other:
            await eventually(lambda: other.mailbox.latest(), what="the mail comes once the server is back")
            await house.running.settled()
            assert len(other.mailbox.latest()) == 1
            assert [(row["state"], row["failures"]) for row in await house.rows()] == [("sent", 0)]


async def test_one_click_in_a_mail_program_leaves_that_list_and_no_other(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana)
        await publish("careloop.plans", ana.milestone("first-week"))
        await eventually(house.mail)
        opened = house.sink.mailbox.open(house.mail()[0].id)
        assert opened is not None
        assert opened.unsubscribe_url is not None
        path = opened.unsubscribe_url.removeprefix("http://127.0.0.1:8403")

        scanned = await house.running.client.get(path)
        assert scanned.status_code == 200
        assert "Milestones" in scanned.text, "a scanner that follows the link changes nothing"
        await publish("careloop.plans", ana.milestone("first-session"))
        await eventually(lambda: len(house.mail()) == 2)

        clock.at += timedelta(days=1)
        clicked = await house.running.client.post(path, data={"List-Unsubscribe": "One-Click"})
        assert clicked.status_code == 200
        again = await house.running.client.post(path, data={"List-Unsubscribe": "One-Click"})
        assert again.status_code == 200
        await publish("careloop.plans", ana.milestone("sessions-10"), ana.lapsed())
        await house.running.settled()
        assert house.mail()[0].subject == "A short session is a good restart"
        assert len(house.mail()) == 3

        await house.running.client.post(path, data={"scope": "all"}, headers={"Accept-Language": "es-MX"})
        await publish("careloop.plans", ana.lapsed(7))
        await house.running.settled()
        assert len(house.mail()) == 3


async def test_a_link_that_is_not_ours_changes_nothing(run_service: RunService, streams: None, sink: MailSink) -> None:
    async with open_house(run_service, sink, Clock()) as house:
        client = house.running.client
        for token in ("", "x", "YWJj.YWJj", "é"):
            answer = await client.post("/v1/unsubscribe", params={"token": token}, data={"scope": "all"})
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.post("/v1/unsubscribe", data={"scope": "all"})).status_code == 422
        rows = await house.running.service.database.fetchval("select count(*) from consents")
        assert rows == 0


SMS = {"sms_url": "http://127.0.0.1:9", "sms_account": "AC1", "sms_token": "token", "sms_from": "+15550000"}


async def say(house: House, text: str, *, sid: str, phone: str = "+15550100", token: str = "token") -> Any:
    fields = {"MessageSid": sid, "From": phone, "Body": text}
    signature = text_signature(url="http://127.0.0.1:8403/v1/inbound/sms", fields=fields, secret=token)
    return await house.running.client.post("/v1/inbound/sms", data=fields, headers={"X-Twilio-Signature": signature})


async def test_stop_is_confirmed_once_and_holds_at_once(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock, email=None)
    async with open_house(run_service, sink, clock, **SMS) as house:
        await house.enrol(publish, ana, channels=("sms",))
        await house.running.settled()
        forged = await say(house, "STOP", sid="SM1", token="guess")
        assert forged.status_code == 403

        answer = await say(house, "Stop, please", sid="SM1")
        assert answer.status_code == 200
        assert "<Message>Careloop: You will get no more texts from us." in answer.text
        repeated = await say(house, "Stop, please", sid="SM1")
        assert repeated.text.endswith("<Response></Response>")
        await publish("careloop.plans", ana.lapsed())

        async def ended() -> bool:
            return [row["reason"] for row in await house.rows()] == ["no-consent"]

        await eventually(ended)
        assert "again" in (await say(house, "START", sid="SM2")).text
        late = await say(house, "Stop, please", sid="SM1")
        assert late.text.endswith("<Response></Response>")
        left = await house.running.service.database.fetchval("select count(*) from opt_outs")
        assert left == 0, "a copy that was held up on its way takes back nothing that was said after it"


async def test_a_stop_from_an_unknown_phone_holds_for_whoever_has_it_later(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink
) -> None:
    clock = Clock()
    ana = Journal(clock, email=None, phone="+15550199")
    enrolled = ana.enrolled(channels=("sms",))
    clock.at += timedelta(minutes=1)
    async with open_house(run_service, sink, clock, **SMS) as house:
        assert (await say(house, "ALTO", sid="SM1", phone="+15550199")).status_code == 200
        await publish("careloop.contacts", ana.contact())
        await publish("careloop.members", enrolled)
        await eventually(partial(house.knows, ana), what="the contact is known")
        await publish("careloop.plans", ana.lapsed())

        async def ended() -> bool:
            return [row["reason"] for row in await house.rows()] == ["no-consent"]

        await eventually(ended)


async def test_who_may_read_what_a_member_was_told(
    run_service: RunService, streams: None, publish: Publish, sink: MailSink, tokens: Tokens
) -> None:
    clock = Clock()
    ana = Journal(clock)
    async with open_house(run_service, sink, clock) as house:
        await house.enrol(publish, ana)
        await publish("careloop.plans", ana.milestone())
        await eventually(house.mail)
        await house.running.settled()

        async def read(token: str | None) -> Any:
            headers = tokens.bearer(token) if token else {}
            return await house.running.client.get(f"/v1/members/{ana.member_id}/notifications", headers=headers)

        oncall, pt, coach = uuid4(), uuid4(), uuid4()
        for token in (tokens.member(ana.member_id), tokens.operator, tokens.oncall(oncall)):
            (told,) = (await read(token)).json()
            assert (told["topic"], told["state"], told["channel"]) == ("milestone", "sent", "email")
            assert "ana@example.org" not in str(told)
        for token in (tokens.member(uuid4()), tokens.coach(uuid4()), tokens.pt(uuid4())):
            assert (await read(token)).status_code == 404
        await publish("careloop.members", ana.team(pt_id=pt, coach_id=coach))
        await house.running.settled()
        for token, expected in ((tokens.pt(pt), 200), (tokens.coach(coach), 200), (tokens.oncall(oncall), 404)):
            assert (await read(token)).status_code == expected
        assert (await read(None)).status_code == 401
        assert (await read(tokens.sponsor_admin)).status_code == 403


def test_links_lead_to_this_service() -> None:
    assert urlsplit(NotificationsSettings(database_url="postgresql://x").public_url).port == 8403
