"""The mail sink over its real protocols: SMTP in, HTTP and JSON out."""

import asyncio
import time
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import aiosmtplib
import httpx
import pytest

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[MailSink]:
    async with MailSink(MailSinkSettings(smtp_port=0, port=0, data=tmp_path / "mail", keep=120)) as running:
        yield running


@pytest.fixture
async def browser(sink: MailSink) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{sink.port}") as client:
        yield client


def letter(*, to: str = "ana@example.org", subject: str = "Your session", text: str = "It is time.") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "care@example.org", to, subject
    message["Date"] = "Mon, 02 Mar 2026 13:00:00 +0000"
    message["Message-ID"] = "<one@example.org>"
    message["List-Unsubscribe"] = "<mailto:stop@example.org>, <http://127.0.0.1:9/v1/unsubscribe?token=abc>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(text)
    message.add_alternative(f"<p>{text}</p>", subtype="html")
    return message


async def send(sink: MailSink, *messages: EmailMessage) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.smtp_port) as client:
        for message in messages:
            await client.send_message(message)


async def test_a_message_can_be_read_searched_and_fetched_as_json(sink: MailSink, browser: httpx.AsyncClient) -> None:
    await send(sink, letter(), letter(to="luis@example.org", subject="Su sesión", text="Es la hora de su sesión."))

    listed = (await browser.get("/messages.json", params={"to": "luis@"})).json()
    assert listed["total"] == 1
    (only,) = listed["messages"]
    assert (only["recipients"], only["subject"]) == ("luis@example.org", "Su sesión")
    assert only["sent_at"] == "2026-03-02T13:00:00+00:00"
    assert only["message_id"] == "<one@example.org>"

    found = await browser.get("/", params={"q": "ES LA HORA"})
    assert "Su sesión" in found.text
    assert "Your session" not in found.text
    assert "1 message with" in found.text

    page = await browser.get(f"/messages/{only['id']}")
    assert page.status_code == 200
    assert "Es la hora de su sesión." in page.text
    assert 'action="http://127.0.0.1:9/v1/unsubscribe?token=abc"' in page.text
    source = await browser.get(f"/messages/{only['id']}/source")
    assert source.headers["content-type"].startswith("text/plain")
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in source.text


async def test_markup_in_a_message_is_shown_and_never_run(sink: MailSink, browser: httpx.AsyncClient) -> None:
    await send(sink, letter(subject="<script>alert(1)</script>", text='</pre><img src=x onerror="alert(2)">'))
    for path in ("/", "/messages/1"):
        page = await browser.get(path)
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert 'sandbox srcdoc="' in (await browser.get("/messages/1")).text


async def test_the_latest_are_kept_and_the_oldest_go(sink: MailSink, browser: httpx.AsyncClient) -> None:
    await send(sink, *(letter(subject=f"number {index}") for index in range(300)))
    listed = (await browser.get("/messages.json", params={"limit": 1000})).json()
    subjects = [message["subject"] for message in listed["messages"]]
    assert subjects[:120] == [f"number {index}" for index in range(299, 179, -1)]
    assert len(subjects) < 120 + 100, "trimmed at most one round late"
    first_page = (await browser.get("/")).text
    assert 'rel="next"' in first_page
    assert 'rel="prev"' not in first_page
    gone = await browser.get("/messages/1")
    assert gone.status_code == 404
    assert "not here" in gone.text


async def test_mail_is_still_there_after_a_restart(tmp_path: Path) -> None:
    settings = MailSinkSettings(smtp_port=0, port=0, data=tmp_path / "a folder")
    async with MailSink(settings) as sink:
        await send(sink, letter(subject="before"))
    async with MailSink(settings) as sink:
        await send(sink, letter(subject="after"))
        assert [message.subject for message in sink.mailbox.latest()] == ["after", "before"]


async def test_broken_mail_is_kept_as_it_came(sink: MailSink, browser: httpx.AsyncClient) -> None:
    headers = b"Subject: =?utf-99?q?=FF?=\r\nDate: yesterday\r\nContent-Type: text/plain; charset=no-such\r\n"
    raw = headers + b"\r\n\xff\xfe body"
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.smtp_port) as client:
        await client.sendmail("care@example.org", ["ana@example.org"], raw)
    assert (await browser.get("/")).status_code == 200
    assert (await browser.get("/messages/1")).status_code == 200
    source = await browser.get("/messages/1/source")
    assert b"\xff\xfe body" in source.content


async def test_an_oversized_message_is_refused_and_the_next_is_taken(sink: MailSink) -> None:
    with pytest.raises(aiosmtplib.SMTPException):
        await send(sink, letter(text="x" * 1_200_000))
    await send(sink, letter(subject="small"))
    assert [message.subject for message in sink.mailbox.latest()] == ["small"]


async def test_empty_states_teach(browser: httpx.AsyncClient) -> None:
    assert "No mail yet" in (await browser.get("/")).text
    assert "No message has these words" in (await browser.get("/", params={"q": "zebra"})).text
    ready = await browser.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "messages": 0})


async def test_it_keeps_up_with_a_seeding_population(sink: MailSink) -> None:
    """Thousands of mails come in minutes while a population is seeded: at most 10 ms of a processor for each, the
    sending side included, over four connections."""
    raw = letter().as_bytes(policy=SMTP)

    async def post(count: int) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.smtp_port) as client:
            for _ in range(count):
                await client.sendmail("care@example.org", ["ana@example.org"], raw)

    started = time.process_time()
    await asyncio.gather(*(post(100) for _ in range(4)))
    assert sink.mailbox.latest(limit=1)[0].id == 400
    assert time.process_time() - started < 400 * 0.010
