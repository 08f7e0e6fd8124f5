"""The channels against servers that behave and servers that do not: what is known of a message afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import SMTP as SMTP_LINES
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP

from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from services.notifications.domain.delivery import Accepted, AttemptResult, NoAnswer, NotNow, Refused
from services.notifications.sender.mail import MailLine
from services.notifications.sender.text import TextLine
from services.notifications.settings import NotificationsSettings
from tests.fixtures.eventually import eventually


def settings(**options: Any) -> NotificationsSettings:
    return NotificationsSettings(**{"database_url": "postgresql://unused", "smtp_timeout_s": 2.0, **options})


def letter() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "care@careloop.example", "ana@example.org", "Hello"
    message.set_content("A line.\n.\n.. and dots")
    return message.as_bytes(policy=SMTP_LINES)


async def send(line: MailLine, to: str = "ana@example.org") -> AttemptResult:
    return await line.send(letter(), sender="care@careloop.example", to=to)


def abort(server: SMTP) -> None:
    """Cut the connection, without a goodbye."""
    transport = server.transport
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


class Moody:
    """A mail server that says what it is told to, and counts what it took."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.to_rcpt = self.to_data = ""
        self.hang_up_after_data = False
        self.closes: Callable[[], None] = lambda: None

    async def handle_RCPT(self, _s: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if self.to_rcpt:
            return self.to_rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:
        if self.to_data:
            return self.to_data
        self.taken.append(envelope.rcpt_tos[0])
        if self.hang_up_after_data:
            abort(server)
            await asyncio.sleep(3600)
        return "250 taken"


@asynccontextmanager
async def running(moody: Moody) -> AsyncIterator[int]:
    open_lines: list[Any] = []

    def speak() -> SMTP:
        protocol = SMTP(moody, hostname="moody")
        open_lines.append(protocol)
        return protocol

    server = await asyncio.get_running_loop().create_server(speak, "127.0.0.1", 0)

    def close_all() -> None:
        for line in open_lines:
            if line.transport:
                abort(line)

    moody.closes = close_all
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        moody.closes()
        server.close()


@asynccontextmanager
async def line_to(port: int, **options: Any) -> AsyncIterator[MailLine]:
    line = MailLine(settings(smtp_port=port, **options))
    try:
        yield line
    finally:
        await line.close()


async def test_a_server_that_accepts_gets_each_message_whole_over_one_connection(tmp_path: Path) -> None:
    async with MailSink(MailSinkSettings(smtp_port=0, port=0, data=tmp_path)) as sink, line_to(sink.smtp_port) as line:
        for _ in range(3):
            assert await send(line) == Accepted()
        opened = sink.mailbox.open(3)
        assert opened is not None
        assert opened.text.splitlines() == ["A line.", ".", ".. and dots"]


@pytest.mark.parametrize(
    ("to_rcpt", "to_data", "result"),
    [
        ("550 no such user", "", Refused(code="smtp-550")),
        ("451 try later", "", NotNow(code="smtp-451")),
        ("", "554 spam", Refused(code="smtp-554")),
        ("", "452 disk full", NotNow(code="smtp-452")),
        ("421 closing", "", NotNow(code="smtp-421", provider_down=True)),
    ],
)
async def test_a_refusal_is_known_and_the_line_goes_on(to_rcpt: str, to_data: str, result: AttemptResult) -> None:
    moody = Moody()
    async with running(moody) as port, line_to(port) as line:
        moody.to_rcpt, moody.to_data = to_rcpt, to_data
        assert await send(line) == result
        moody.to_rcpt = moody.to_data = ""
        assert await send(line, to="next@example.org") == Accepted()
        assert moody.taken == ["next@example.org"]


async def test_a_line_that_dies_after_the_message_was_handed_over_leaves_it_unknown() -> None:
    moody = Moody()
    moody.hang_up_after_data = True
    async with running(moody) as port, line_to(port) as line:
        assert await send(line) == NoAnswer()
        assert moody.taken == ["ana@example.org"], "it had been taken: sending it again would be twice"


async def test_an_idle_line_that_the_server_closed_is_opened_again_for_the_same_message() -> None:
    moody = Moody()
    async with running(moody) as port, line_to(port) as line:
        assert await send(line) == Accepted()
        moody.closes()
        assert await send(line) == Accepted()
        assert len(moody.taken) == 2


async def test_a_server_that_is_not_there_or_never_speaks_took_nothing() -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with line_to(port, smtp_timeout_s=0.3) as line:
        assert await send(line) == NotNow(code="smtp-unreachable", provider_down=True)
    silent.close()
    async with line_to(port) as line:
        assert await send(line) == NotNow(code="smtp-unreachable", provider_down=True)


async def test_a_wrong_password_is_the_servers_trouble_and_not_the_messages() -> None:
    async with running(Moody()) as port, line_to(port, smtp_username="u", smtp_password="p") as line:
        result = await send(line)
        assert isinstance(result, NotNow)
        assert result.provider_down


@pytest.mark.parametrize(
    ("greeting", "code"), [("554 no service here", 554), ("220 ready", 535)], ids=["turned-away", "wrong-password"]
)
async def test_who_is_refused_at_the_door_has_had_no_message_refused(greeting: str, code: int) -> None:
    """A password that is being changed would else end all that is to be sent meanwhile, for good."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: str | None = greeting
        while answer is not None:
            writer.write(f"{answer}\r\n".encode())
            await writer.drain()
            said = (await reader.readline()).upper()
            answer = "250-here\r\n250 AUTH PLAIN" if said.startswith(b"EHLO") else "535 wrong" if said else None
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with line_to(port, smtp_username="u", smtp_password="p") as line:
        assert await send(line) == NotNow(code=f"smtp-{code}", provider_down=True)
    server.close()


async def test_a_cancelled_send_leaves_no_half_used_line() -> None:
    moody = Moody()
    moody.hang_up_after_data = True
    async with running(moody) as port, line_to(port) as line:
        sending = asyncio.create_task(send(line))
        await eventually(lambda: moody.taken)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        moody.hang_up_after_data = False
        assert await send(line) == Accepted()


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (201, Accepted()),
        (400, Refused(code="sms-400")),
        (401, NotNow(code="sms-401", provider_down=True)),
        (429, NotNow(code="sms-429")),
        (503, NotNow(code="sms-503")),
        (500, NoAnswer()),
    ],
)
async def test_what_the_sms_provider_answers(status: int, result: AttemptResult) -> None:
    seen: list[httpx.Request] = []

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(
            next(line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length"))
        )
        body = await reader.readexactly(length)
        method, path, _ = head.splitlines()[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        seen.append(httpx.Request(method, f"http://provider{path}", headers=headers, content=body))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(provider, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    options = settings(sms_url=url, sms_account="AC1", sms_token="secret", sms_from="+15550000")
    async with httpx.AsyncClient() as client:
        line = TextLine(options, client)
        assert await line.send(to="+15550100", body="hi & bye", idempotency_key="n1") == result
        server.close()
        down = await line.send(to="+15550100", body="hi", idempotency_key="n2")
        assert down == NotNow(code="sms-unreachable", provider_down=True)
    (request,) = seen
    assert request.url.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert request.content == b"To=%2B15550100&From=%2B15550000&Body=hi+%26+bye"
    assert request.headers["authorization"] == httpx.BasicAuth("AC1", "secret")._auth_header
    assert request.headers["idempotency-key"] == "n1"


async def test_an_sms_provider_that_goes_silent_leaves_the_text_unknown() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    options = settings(sms_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sms_account="AC1")
    async with httpx.AsyncClient() as client:
        assert await TextLine(options, client).send(to="+15550100", body="hi", idempotency_key="n") == NoAnswer()
    server.close()


@asynccontextmanager
async def texts_to(serve: Callable[..., Any], *, scheme: str = "http") -> AsyncIterator[TextLine]:
    """A line to a provider that serves like this, and has a third of a second for a text."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        yield TextLine(settings(sms_url=url, sms_account="AC1", sms_timeout_s=0.3), client)
    server.close()


@pytest.mark.parametrize("begins", [b"HTTP/1.1 201 X\r\n", b"HTTP/1.1 201 X\r\nContent-Length: 99999\r\n\r\n"])
async def test_an_sms_provider_that_answers_byte_by_byte_keeps_no_line_for_longer_than_a_text_may_take(
    begins: bytes,
) -> None:
    """Nothing else would be sent until it has ended: no mail, either."""

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begins)
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async with texts_to(trickle) as line, asyncio.timeout(5):
        assert await line.send(to="+15550100", body="hi", idempotency_key="n") == NoAnswer()


async def test_an_sms_provider_that_never_shakes_hands_took_nothing() -> None:
    async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with texts_to(say_nothing, scheme="https") as line, asyncio.timeout(5):
        result = await line.send(to="+15550100", body="hi", idempotency_key="n")
        assert result == NotNow(code="sms-unreachable", provider_down=True)
