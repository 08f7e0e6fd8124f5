"""The background task: claims what is due, sends it, records what became of it, gives up what was never answered."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import httpx
import stamina
from prometheus_client import Counter

from services.notifications.domain.delivery import AttemptResult, NoAnswer, NotNow, Refused
from services.notifications.handlers.claim_sends import Attempt, claim_sends
from services.notifications.handlers.record_sends import Answer, record_sends
from services.notifications.sender.mail import MailLine
from services.notifications.sender.rendering import Letterhead, UnusableAddress, render_email, render_text
from services.notifications.sender.text import TextLine
from services.notifications.settings import NotificationsSettings
from services.notifications.store.notifications import find_due, find_unanswered
from shared.clock import monotonic
from shared.database import is_transient
from shared.events.vocabulary import Channel
from shared.isolating import describe_bug
from shared.service import Service
from shared.telemetry import BUGS, logger

UNANSWERED_MAX = 200
PROVIDER_DOWN_WAIT_S = (1.0, 30.0)
"""First and longest pause, in machine time, while a provider cannot be reached."""
ATTEMPTS = Counter("careloop_notification_attempts", "Attempts to send, by what became of them.", ["channel", "result"])
log = logger("sender")


class Sender:
    """Sends batches over a few lines to each provider. No database connection is held while anything is sent."""

    def __init__(self, service: Service, settings: NotificationsSettings, letterhead: Letterhead) -> None:
        self._service, self._settings, self._letterhead = service, settings, letterhead
        self._begin_until = 0.0
        """Machine time after which no send is begun."""
        self._http = httpx.AsyncClient()
        self._text = TextLine(settings, self._http)
        self._mail = [MailLine(settings) for _ in range(settings.smtp_connections)]
        self.channels: frozenset[Channel] = frozenset(("email", "sms") if settings.sms_url else ("email",))

    async def run(self) -> None:
        """Until cancelled."""
        shortest, longest = PROVIDER_DOWN_WAIT_S
        wait = shortest
        while True:
            await self.give_up_unanswered()
            claimed, is_down = await self.send_batch()
            if is_down:
                log.warning("a provider cannot be reached", again_in_s=wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)
                continue
            wait = shortest
            if claimed < self._settings.send_batch:
                await asyncio.sleep(self._settings.send_poll_s)

    async def send_batch(self) -> tuple[int, bool]:
        """How many were found due, and whether a provider could not be reached. Each attempt is recorded before it is
        made and settled after; what dies in between is found by give_up_unanswered."""
        service, settings = self._service, self._settings
        async with service.database.acquire() as connection:
            due = await find_due(connection, now=service.clock.now(), limit=settings.send_batch)
        if not due:
            return 0, False
        started = monotonic()
        member_ids = sorted({member_id for _, member_id in due})
        async with service.command("claim-sends", member_ids=member_ids) as work:
            claimed = await claim_sends(
                work.connection,
                notification_ids=[one for one, _ in due],
                channels=self.channels,
                mailboxes=settings.page_mailboxes,
                answer_within=timedelta(seconds=settings.send_answer_within_s),
                now=work.now,
            )
            work.take(claimed.outcomes)
        # Whatever has not been begun when half of the time to answer is over goes back unsent.
        self._begin_until = started + settings.send_answer_within_s / 2
        sending = asyncio.create_task(self._send_and_record(claimed.attempts))
        try:
            is_down = await asyncio.shield(sending)
        except asyncio.CancelledError:
            # Stopping: begin nothing more, but finish and record what is on the line.
            self._begin_until = 0.0
            await sending
            raise
        return len(due), is_down

    async def _send_and_record(self, attempts: Sequence[Attempt]) -> bool:
        answers = await self._send_all(attempts)
        await self.record(attempts, answers)
        return any(isinstance(one.result, NotNow) and one.result.provider_down for one in answers)

    async def record(self, attempts: Sequence[Attempt], answers: Sequence[Answer]) -> None:
        """Write the results, for as long as the database takes: they are known nowhere else."""
        if not answers:
            return
        member_ids = sorted({attempt.notification.member_id for attempt in attempts})
        async for trial in stamina.retry_context(on=is_transient, attempts=None, timeout=None, wait_max=2.0):
            with trial:
                async with self._service.command("record-sends", member_ids=member_ids) as work:
                    work.take(await record_sends(work.connection, answers=answers, now=work.now))

    async def give_up_unanswered(self) -> int:
        """Attempts whose process died before it recorded a result: told as unknown, and not made again."""
        async with self._service.database.acquire() as connection:
            unanswered = await find_unanswered(connection, limit=UNANSWERED_MAX)
        if not unanswered:
            return 0
        answers = [Answer(notification_id=one, attempt=number, result=NoAnswer()) for one, _, number in unanswered]
        member_ids = sorted({member_id for _, member_id, _ in unanswered})
        async with self._service.command("give-up-sends", member_ids=member_ids) as work:
            work.take(await record_sends(work.connection, answers=answers, now=work.now))
        log.warning("attempts without an answer", count=len(unanswered))
        return len(unanswered)

    async def _send_all(self, attempts: Sequence[Attempt]) -> list[Answer]:
        waiting = list(reversed(attempts))
        answers: list[Answer] = []
        down: set[Channel] = set()

        async def work_off(line: MailLine) -> None:
            while waiting:
                attempt = waiting.pop()
                result: AttemptResult = NotNow(code="not-begun", provider_down=True)
                if attempt.channel not in down and monotonic() < self._begin_until:
                    result = await self._send(attempt, line)
                if isinstance(result, NotNow) and result.provider_down:
                    down.add(attempt.channel)
                ATTEMPTS.labels(attempt.channel, type(result).__name__).inc()
                notification_id = attempt.notification.notification_id
                answers.append(Answer(notification_id=notification_id, attempt=attempt.number, result=result))

        await asyncio.gather(*(work_off(line) for line in self._mail))
        return answers

    async def _send(self, attempt: Attempt, line: MailLine) -> AttemptResult:
        """Never raises: a bug with one message must not leave the others of its batch unanswered."""
        begun = False
        try:
            if attempt.channel == "sms":
                key = str(attempt.notification.notification_id)
                body = render_text(attempt, letterhead=self._letterhead)
                begun = True
                return await self._text.send(to=attempt.address, body=body, idempotency_key=key)
            message = render_email(attempt, letterhead=self._letterhead, now=self._service.clock.now())
            begun = True
            return await line.send(message, sender=self._letterhead.envelope_sender, to=attempt.address)
        except UnusableAddress:
            return Refused(code="unusable-address")
        except Exception as error:
            BUGS.labels("sender").inc()
            log.error("a message could not be sent", template=attempt.notification.template, error=describe_bug(error))
            return NoAnswer() if begun else Refused(code="not-renderable")

    async def close(self) -> None:
        for line in self._mail:
            await line.close()
        await self._http.aclose()


def run_sender(
    settings: NotificationsSettings, *, letterhead: Callable[[Service], Awaitable[Letterhead]]
) -> Callable[[Service], Awaitable[None]]:
    """The task's function, for main.py."""

    async def run(service: Service) -> None:
        sender = Sender(service, settings, await letterhead(service))
        try:
            await sender.run()
        finally:
            await sender.close()

    return run
