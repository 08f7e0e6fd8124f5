"""What the sender writes down: each attempt before it is made, and what became of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from services.notifications.domain.delivery import AttemptResult, NoAnswer
from services.notifications.handlers.claim_sends import Attempt, Claimed, claim_sends
from services.notifications.handlers.record_sends import Answer, record_sends
from services.notifications.sender.page_figures import count_failed
from services.notifications.settings import NotificationsSettings
from services.notifications.store.notifications import find_due, find_unanswered
from shared.backoff import Backoff
from shared.commands import Work, new_command
from shared.database import is_transient
from shared.events.vocabulary import Channel
from shared.member_locks import claim_members
from shared.outbox import write_outcomes
from shared.service import Service
from shared.telemetry import BUGS, describe_bug, logger

UNANSWERED_MAX = 200
PAGES_MAX = 20
"""Most pages claimed in one transaction: one that comes next does not wait for many."""
T = TypeVar("T")
log = logger("sender")


class Books:
    """Of pages, or of all else. Nobody is waited for: what somebody else has locked is left for a later time, and what
    a bug holds up holds up no other."""

    def __init__(self, service: Service, settings: NotificationsSettings, *, name: str, pages: bool) -> None:
        self._service, self._settings, self._name, self._pages = service, settings, name, pages
        self._database = service.safety if pages else service.database
        self.batch = min(settings.send_batch, PAGES_MAX) if pages else settings.send_batch
        self._channels: frozenset[Channel] = frozenset(("email", "sms") if settings.sms_url else ("email",))
        self._unrecorded: dict[tuple[UUID, int], Answer] = {}
        self._locked: Backoff[UUID] = Backoff(first_s=0.5, most_s=4.0)
        """Members whom somebody else held, so that others are found before them."""
        self._faulty: Backoff[UUID] = Backoff(first_s=5.0, most_s=300.0)
        """Notifications of which nothing can be written, because of a bug."""

    async def claim(self) -> tuple[bool, list[Attempt]]:
        """Whether more may be due at once, and the attempts to make: recorded before they are made."""
        async with self._database.acquire() as connection:
            due = await find_due(
                connection,
                pages=self._pages,
                now=self._service.clock.now(),
                limit=self.batch,
                but_members=self._locked.waiting(),
                but=self._faulty.waiting(),
            )
        claims = await self._apart(self._claim, due, of=lambda one: one[0])
        attempts = [attempt for claimed in claims for attempt in claimed.attempts]
        return len(due) == self.batch and any(claimed.taken for claimed in claims), attempts

    async def _claim(self, due: Sequence[tuple[UUID, UUID]]) -> Claimed:
        async with self._transaction("claim-sends", [member_id for _, member_id in due]) as (work, members):
            claimed = await claim_sends(
                work.connection,
                notification_ids=[one for one, member_id in due if member_id in members],
                channels=self._channels,
                mailboxes=self._settings.page_mailboxes,
                answer_within=timedelta(seconds=self._settings.send_answer_within_s),
                now=work.now,
            )
            work.take(claimed.outcomes)
        return claimed

    def note(self, attempt: Attempt, result: AttemptResult) -> None:
        """What became of an attempt. It is known nowhere else until it is recorded."""
        one = attempt.notification
        self._unrecorded[one.notification_id, attempt.number] = Answer(
            notification_id=one.notification_id, member_id=one.member_id, attempt=attempt.number, result=result
        )

    @property
    def is_complete(self) -> bool:
        """Whether all that was noted is recorded, but for what cannot be."""
        return all(notification_id in self._faulty for notification_id, _ in self._unrecorded)

    async def record(self) -> None:
        """Write down what was noted, but for what somebody else has locked: that is kept for the next time."""
        faulty = self._faulty.waiting()
        answers = [one for one in self._unrecorded.values() if one.notification_id not in faulty]
        await self._apart(self._record, answers, of=lambda one: one.notification_id)

    async def give_up_unanswered(self) -> None:
        """Attempts whose process died before it recorded a result."""
        known = self._faulty.waiting() | {notification_id for notification_id, _ in self._unrecorded}
        async with self._database.acquire() as connection:
            unanswered = await find_unanswered(connection, pages=self._pages, limit=UNANSWERED_MAX, but=known)
        if not unanswered:
            return
        answers = [
            Answer(notification_id=one, member_id=member_id, attempt=number, result=NoAnswer())
            for one, member_id, number in unanswered
        ]
        log.warning("attempts without an answer", count=len(answers))
        await self._apart(self._record, answers, of=lambda one: one.notification_id)

    async def _record(self, answers: Sequence[Answer]) -> None:
        async with self._transaction("record-sends", [answer.member_id for answer in answers]) as (work, members):
            mine = [answer for answer in answers if answer.member_id in members]
            recorded = await record_sends(work.connection, answers=mine, now=work.now)
            work.take(recorded.outcomes)
        for answer in mine:
            if answer.notification_id not in recorded.left:
                self._unrecorded.pop((answer.notification_id, answer.attempt), None)

    async def _apart(
        self, do: Callable[[Sequence[T]], Awaitable[Claimed | None]], these: Sequence[T], *, of: Callable[[T], UUID]
    ) -> list[Claimed]:
        """Do it with all of them; where that fails because of a bug, with each by itself."""
        if not these:
            return []
        try:
            done = await do(these)
            return [done] if done else []
        except Exception as error:
            if is_transient(error):
                raise
        claims: list[Claimed] = []
        for one in these:
            try:
                claimed = await do([one])
            except Exception as error:
                if not is_transient(error):
                    self._faulty.fail(of(one))
                    BUGS.labels(self._name).inc()
                    log.error("nothing can be written of a notification", error=describe_bug(error))
                elif claims:
                    break  # those that were claimed are to be sent
                else:
                    raise
            else:
                self._faulty.succeed(of(one))
                claims += [claimed] if claimed else []
        return claims

    @asynccontextmanager
    async def _transaction(self, name: str, member_ids: Collection[UUID]) -> AsyncIterator[tuple[Work, set[UUID]]]:
        """One transaction, and those of these members about whom it may decide: whom nobody else holds. For pages that
        is everybody: none is locked, their connections are those of red flags, and what is published of them is urgent,
        as nothing keeps it in the order of what else is published about its member."""
        wanted = list(dict.fromkeys(member_ids))
        if not self._pages:
            async with self._service.command(name, member_ids=()) as work:
                members = await claim_members(work.connection, wanted, limit=len(wanted))
                yield work, members
            for member_id in wanted:
                self._locked.succeed(member_id) if member_id in members else self._locked.fail(member_id)
            return
        service = self._service
        async with self._database.acquire(timeout=10) as connection, connection.transaction():
            work = Work(connection, service.clock.now(), new_command(name, service=service.name, member_ids=()))
            yield work, set(wanted)
            published = await write_outcomes(
                connection, work.outcomes, service=service.name, scope=name, now=work.now, urgent=True
            )
        service.committed(published, urgent=True)
        count_failed(work.outcomes.published)
