"""SMTP and HTTP on one event loop, over one mailbox."""

import asyncio
import socket
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.mail_sink.mailbox import Mailbox
from deploy.local.mail_sink.pages import build_pages
from deploy.local.mail_sink.settings import MailSinkSettings
from shared.clock import wall_now

HOST = "127.0.0.1"
MESSAGE_SIZE_MAX = 1_048_576
"""Bytes of one message; a notification is about 4,000."""


class Receiver:
    """Takes every message for everybody: aiosmtpd calls it with each complete message."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else bytes(content or b"")
        number = self._mailbox.deliver(
            sender=envelope.mail_from or "",
            recipients=[str(to) for to in envelope.rcpt_tos],
            raw=raw,
            received_at=wall_now(),
        )
        return f"250 2.0.0 kept as {number}"


class _Pages(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs the sink decides when it stops."""

    def capture_signals(self) -> Any:
        return nullcontext()


class MailSink:
    """A running sink: `async with MailSink(settings) as sink:`, then `sink.smtp_port` and `sink.port` were bound."""

    def __init__(self, settings: MailSinkSettings) -> None:
        self._settings = settings
        self.mailbox = Mailbox(settings.data / "mail.sqlite", keep=settings.keep)
        self.smtp_port = 0
        self.port = 0

    async def __aenter__(self) -> "MailSink":
        receiver = Receiver(self.mailbox)
        loop = asyncio.get_running_loop()

        def speak() -> SMTP:
            return SMTP(receiver, data_size_limit=MESSAGE_SIZE_MAX, enable_SMTPUTF8=True, hostname="mail-sink")

        self._smtp = await loop.create_server(speak, HOST, self._settings.smtp_port, start_serving=False)
        self.smtp_port = self._smtp.sockets[0].getsockname()[1]
        listener = socket.create_server((HOST, self._settings.port))
        self.port = listener.getsockname()[1]
        app = build_pages(self.mailbox, is_ready=self._smtp.is_serving)
        config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        self._pages = _Pages(config)
        self._serving = asyncio.create_task(self._pages.serve(sockets=[listener]), name="mail-sink-pages")
        await self._smtp.start_serving()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._smtp.close()
        self._pages.should_exit = True
        await self._serving
        self.mailbox.close()
