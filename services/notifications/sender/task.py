"""The background tasks: claim what is due, send it, record what became of it, give up what was never answered."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.notifications.sender.books import Books
from services.notifications.sender.lines import Lines
from services.notifications.sender.rendering import Letterhead
from services.notifications.settings import NotificationsSettings
from shared.clock import monotonic
from shared.database import Database, is_transient
from shared.ending import end_tasks, see_through
from shared.panics import is_panic
from shared.service import Service
from shared.telemetry import logger

PAGE_LINES = 2
"""Connections to the mail server that only pages use."""
PROVIDER_DOWN_FIRST_S = 1.0
PROVIDER_DOWN_MOST_S = {True: 5.0, False: 30.0}
"""First and longest pause, in machine time, while a provider cannot be reached; the longest by whether it is pages."""
FINISH_S, RECORDED_S, END_S = 5.5, 7.2, 7.6
"""Seconds after which, when the process ends, nothing is left on the lines, all is recorded, and this ends whatever is
left. The process gives its tasks 8 s."""
AGAIN_S = 0.1
log = logger("sender")


class Sender:
    """Sends batches, of pages or of all else: the two share no line, no connection and no pause."""

    def __init__(
        self, service: Service, settings: NotificationsSettings, letterhead: Letterhead, *, pages: bool
    ) -> None:
        self._settings = settings
        name, count = ("pager", PAGE_LINES) if pages else ("sender", settings.smtp_connections)
        self._longest = PROVIDER_DOWN_MOST_S[pages]
        self._books = Books(service, settings, name=name, pages=pages)
        self._lines = Lines(settings, letterhead, name=name, count=count, clock=service.clock, note=self._books.note)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled, and then until nothing is left without an answer: whoever ends this cancels it again and
        again, and the work itself is never cancelled in the middle."""
        working = asyncio.create_task(self._work())
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            await see_through(asyncio.create_task(self._end(working)), within_s=END_S)
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):  # it does not begin again
                await self._lines.close()
            raise

    async def _work(self) -> None:
        wait = PROVIDER_DOWN_FIRST_S
        while not self._stopping.is_set():
            await self._books.record()
            await self._books.give_up_unanswered()
            started = monotonic()
            more, attempts = await self._books.claim()
            is_down = await self._lines.send(attempts, begin_until=started + self._settings.send_answer_within_s / 2)
            await self._books.record()
            if is_down and not self._stopping.is_set():
                log.warning("a provider cannot be reached", again_in_s=wait)
                await self._idle(wait)
                wait = min(wait * 2, self._longest)
                continue
            wait = PROVIDER_DOWN_FIRST_S
            if not more:
                await self._idle(self._settings.send_poll_s)

    async def _idle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _end(self, working: "asyncio.Task[None]") -> None:
        """What was not begun goes back at once, what is on the lines has some seconds, and all of it is recorded."""
        began = monotonic()
        self._stopping.set()
        self._lines.give_back()
        recording = asyncio.create_task(self._record_all(working))
        await asyncio.wait((working,), timeout=FINISH_S)
        await self._lines.cut()
        await asyncio.wait((recording,), timeout=began + RECORDED_S - monotonic())
        if not await end_tasks((working, recording), within_s=AGAIN_S) or not self._books.is_complete:
            log.warning("attempts were left without an answer")
        await self._lines.close()

    async def _record_all(self, working: "asyncio.Task[None]") -> None:
        """Until nothing comes any more. The database may fail meanwhile, and members may be held by others."""
        while not working.done() or not self._books.is_complete:
            try:
                await self._books.record()
            except Exception as error:
                if not is_transient(error):
                    raise
            await asyncio.sleep(AGAIN_S)


def run_sender(
    settings: NotificationsSettings, *, letterhead: Callable[[Database], Awaitable[Letterhead]], pages: bool
) -> Callable[[Service], Awaitable[None]]:
    """A task's function, for main.py. Begun again after a failure it goes on with what it had noted."""
    sender: Sender | None = None

    async def run(service: Service) -> None:
        nonlocal sender
        if sender is None:
            found = await letterhead(service.safety if pages else service.database)
            sender = Sender(service, settings, found, pages=pages)
        await sender.run()

    return run
