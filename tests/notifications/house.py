"""A running service of notifications on real servers, with a real mailbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from deploy.local.mail_sink.mailbox import Summary
from deploy.local.mail_sink.server import MailSink
from services.notifications.main import build
from services.notifications.settings import NotificationsSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.notifications.journal import Clock, Journal


@dataclass
class House:
    """A running service, its mailbox and its clock."""

    running: RunningService
    sink: MailSink
    clock: Clock

    def mail(self, to: str = "") -> list[Summary]:
        return self.sink.mailbox.latest(to=to, limit=1_000)

    async def enrol(self, publish: Publish, *journals: Journal, **consent: Any) -> None:
        """Until they can be reached: topics have no order, and the next event may come before the contact."""
        for one in journals:
            await publish("careloop.plans", one.plan())
            await publish("careloop.contacts", one.contact())
            await publish("careloop.members", one.enrolled(**consent))
        for one in journals:
            await eventually(partial(self.knows, one), what="the contact is known")

    async def knows(self, one: Journal) -> bool:
        find = "select exists (select from contacts join enrollments using (member_id) where member_id = $1)"
        return bool(await self.running.service.database.fetchval(find, one.member_id))

    async def rows(self) -> list[dict[str, Any]]:
        found = await self.running.service.database.fetch("select * from notifications order by planned_at, about")
        return [dict(row) for row in found]


@asynccontextmanager
async def open_house(run_service: RunService, sink: MailSink, clock: Clock, **options: Any) -> AsyncIterator[House]:
    values = {"name": "notifications", "smtp_port": sink.smtp_port, "send_poll_s": 0.05, **options}
    async with run_service(partial(build, clock=clock), NotificationsSettings, **values) as running:
        yield House(running, sink, clock)
