"""The lines to the providers: a batch goes out over a few of them side by side."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import httpx
from prometheus_client import Counter

from services.notifications.domain.delivery import AttemptResult, NoAnswer, NotNow, Refused
from services.notifications.handlers.claim_sends import Attempt
from services.notifications.sender.mail import MailLine
from services.notifications.sender.rendering import Letterhead, UnusableAddress, render_email, render_text
from services.notifications.sender.text import TextLine
from services.notifications.settings import NotificationsSettings
from shared.clock import Clock, monotonic
from shared.ending import end_tasks
from shared.events.vocabulary import Channel
from shared.telemetry import BUGS, describe_bug, logger

CUT_S = 0.7
ATTEMPTS = Counter("careloop_notification_attempts", "Attempts to send, by what became of them.", ["channel", "result"])
NOT_BEGUN = NotNow(code="not-begun", provider_down=True)
log = logger("sender")


class Lines:
    """Each attempt's result is noted as soon as it is known. No database connection is held while anything is sent."""

    def __init__(
        self,
        settings: NotificationsSettings,
        letterhead: Letterhead,
        *,
        name: str,
        count: int,
        clock: Clock,
        note: Callable[[Attempt, AttemptResult], None],
    ) -> None:
        self._letterhead, self._name, self._clock, self._note_result = letterhead, name, clock, note
        self._http = httpx.AsyncClient() if settings.sms_url else None
        self._text = TextLine(settings, self._http) if self._http else None
        self._mail = [MailLine(settings) for _ in range(count)]
        self._waiting: deque[Attempt] = deque()
        self._down: set[Channel] = set()
        self._working: set[asyncio.Task[None]] = set()
        self._begin_until = 0.0
        """Machine time after which no send is begun."""
        self._stopping = self._cutting = False

    async def send(self, attempts: Sequence[Attempt], *, begin_until: float) -> bool:
        """Make these attempts; whether a provider could not be reached. Whatever has not been begun by then, in machine
        time, goes back unsent."""
        self._begin_until, self._down = begin_until, set()
        self._waiting.extend(attempts)
        if self._stopping:
            self.give_back()
        if not self._waiting:
            return False
        self._working = {asyncio.create_task(self._work_off(line)) for line in self._mail}
        done, _ = await asyncio.wait(self._working)
        for line in done:
            line.result()
        return bool(self._down)

    def give_back(self) -> None:
        """Begin nothing more: what waits goes back unsent, and so does all that comes later."""
        self._stopping = True
        while self._waiting:
            self._note(self._waiting.popleft(), NOT_BEGUN)

    async def cut(self) -> None:
        """Wait no longer for what is on the lines."""
        self._cutting = True
        await end_tasks(self._working, within_s=CUT_S)

    async def close(self) -> None:
        for line in self._mail:
            await line.close()
        if self._http is not None:
            await self._http.aclose()

    async def _work_off(self, line: MailLine) -> None:
        while self._waiting:
            attempt = self._waiting.popleft()
            result: AttemptResult = NOT_BEGUN
            if attempt.channel not in self._down and monotonic() < self._begin_until:
                try:
                    result = await self._send(attempt, line)
                except asyncio.CancelledError:
                    if not self._cutting:
                        raise
                    is_out = attempt.channel == "sms" or line.handed_over
                    result = NoAnswer() if is_out else NOT_BEGUN
            self._note(attempt, result)

    def _note(self, attempt: Attempt, result: AttemptResult) -> None:
        if isinstance(result, NotNow) and result.provider_down:
            self._down.add(attempt.channel)
        ATTEMPTS.labels(attempt.channel, type(result).__name__).inc()
        self._note_result(attempt, result)

    async def _send(self, attempt: Attempt, line: MailLine) -> AttemptResult:
        """Never raises: a bug with one message must not leave the others of its batch unanswered."""
        begun = False
        try:
            if attempt.channel == "sms":
                assert self._text is not None
                key = str(attempt.notification.notification_id)
                body = render_text(attempt, letterhead=self._letterhead)
                begun = True
                return await self._text.send(to=attempt.address, body=body, idempotency_key=key)
            message = render_email(attempt, letterhead=self._letterhead, now=self._clock.now())
            begun = True
            return await line.send(message, sender=self._letterhead.envelope_sender, to=attempt.address)
        except UnusableAddress:
            return Refused(code="unusable-address")
        except Exception as error:
            BUGS.labels(self._name).inc()
            log.error("a message could not be sent", template=attempt.notification.template, error=describe_bug(error))
            return NoAnswer() if begun else Refused(code="not-renderable")
