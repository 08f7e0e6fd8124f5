"""The books of a service that took a log, and what to publish into that log."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from deploy.reconciliation.reconcile import Report, reconcile
from shared.clock import WallClock
from tests.fixtures.databases import connected
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.journeys.events import joining

ACTIVITY = "careloop.activity"
TABLES = ("positions", "inbox", "held_events", "outbox", "timers")
NOT_AN_EVENT = b'{"specversion": "1.0"'


@dataclass
class Books:
    """The database of a plans service, and the log that it took."""

    servers: RunningServers
    namespace: str
    url: str

    async def check(self) -> list[str]:
        """What does not add up, as `careloop reconcile` says it."""
        report = await self.report()
        told = report.problems + [f"{one.consumer_group}: {what}" for one in report.lines for what in one.problems]
        assert report.ok == (not told)
        return told

    async def report(self) -> Report:
        return await reconcile(
            bootstrap=self.servers.kafka_bootstrap, namespace=self.namespace, databases={"plans": self.url},
            clock=WallClock(), progress=lambda _: None,
        )  # fmt: skip

    async def do(self, *statements: str) -> None:
        async with connected(self.url) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def keep(self) -> None:
        """Remember the books as they are."""
        await self.do("create schema kept", *(f"create table kept.{name} as table delivery.{name}" for name in TABLES))

    async def restore(self) -> None:
        """Undo whatever was done since."""
        await self.do(
            f"truncate {', '.join(f'delivery.{name}' for name in TABLES)}",
            *(f"insert into delivery.{name} overriding system value table kept.{name}" for name in TABLES),
        )


def ago(days_ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days_ago)


async def join(publish: Publish, *members: UUID) -> None:
    for member in members:
        for topic, event in joining(member, pt=uuid4(), coach=uuid4(), at=ago(20)):
            await publish(topic, event)
