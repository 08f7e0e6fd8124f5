"""Email by SMTP, one line of commands at a time, so that it is known how far a message got."""

import asyncio

import aiosmtplib

from services.notifications.domain.delivery import Accepted, AttemptResult, NoAnswer, NotNow, Refused
from services.notifications.settings import NotificationsSettings
from shared.clock import monotonic

SERVICE_CLOSING = 421
"""RFC 5321: the server closes the connection; it says nothing about the message."""


class MailLine:
    """One SMTP connection, opened when first used and again when lost. For one message at a time."""

    def __init__(self, settings: NotificationsSettings) -> None:
        self._settings = settings
        self._client: aiosmtplib.SMTP | None = None
        self.handed_over = False
        """Whether the message in hand may have been accepted."""

    async def send(self, message: bytes, *, sender: str, to: str) -> AttemptResult:
        """Hand one message over. Never raises for what the server or the network does: the result tells."""
        deadline = monotonic() + self._settings.smtp_timeout_s
        result = await self._try(message, sender, to, deadline)
        if isinstance(result, NotNow) and result.code == "smtp-stale-line":
            # The server had closed an idle connection before it took anything: once more on a new one.
            result = await self._try(message, sender, to, deadline)
        return result

    async def _try(self, message: bytes, sender: str, to: str, deadline: float) -> AttemptResult:
        was_open = self._client is not None
        self.handed_over = False
        try:
            async with asyncio.timeout(max(0.0, deadline - monotonic())):
                client = self._client or await self._connect()
                await client.mail(sender)
                await client.rcpt(to)
                self.handed_over = True
                await client.data(message)
        except aiosmtplib.SMTPResponseException as answer:
            return await self._answered(answer.code, from_line=self._client is not None)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            await self.close()
            if self.handed_over:
                return NoAnswer()
            stale = was_open and isinstance(error, aiosmtplib.SMTPServerDisconnected)
            return NotNow(code="smtp-stale-line" if stale else "smtp-unreachable", provider_down=True)
        except BaseException:
            await self.close()
            raise
        return Accepted()

    async def _connect(self) -> aiosmtplib.SMTP:
        settings = self._settings
        password = settings.smtp_password.get_secret_value() if settings.smtp_password else None
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            username=settings.smtp_username,
            password=password,
            timeout=settings.smtp_timeout_s,
        )
        try:
            await client.connect()
            if not client.is_ehlo_or_helo_needed:
                self._client = client
                return client
            await client.ehlo()
        except BaseException:
            client.close()
            raise
        self._client = client
        return client

    async def _answered(self, code: int, *, from_line: bool) -> AttemptResult:
        """The server answered with an error: nothing was accepted. Of an answer at connecting it is the server that is
        down, or our password that is wrong; neither says anything about the message."""
        reset = False
        if self._client is not None and code != SERVICE_CLOSING:
            try:
                async with asyncio.timeout(5):
                    await self._client.rset()
                reset = True
            except (aiosmtplib.SMTPException, OSError, TimeoutError):
                pass
        if not reset:
            await self.close()
        if not from_line or code == SERVICE_CLOSING:
            return NotNow(code=f"smtp-{code}", provider_down=True)
        return NotNow(code=f"smtp-{code}") if code < 500 else Refused(code=f"smtp-{code}")

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
