"""What tests of dead letters share: an operator at the probe, and everything that its database holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from deploy.dead_letters.listing import Filters
from deploy.dead_letters.running import Action, Done, Request, Runner
from deploy.reconciliation.books import Disagreeing, count_disagreeing
from shared.clock import WallClock
from shared.database import open_database
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder, encode
from shared.events.upcasters import Upcaster
from shared.replaying import Reader
from shared.subscriptions import Subscription
from tests.fixtures.services import RunningService
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, follow_activity, follow_members, pain, raise_red_flags

OLD_PAIN = "org.careloop.pain.reported.v0"
TABLES = (
    "delivery.positions", "delivery.member_locks", "delivery.inbox", "delivery.held_events", "delivery.outbox",
    "delivery.timers", "delivery.operations", "effects", "known_members",
)  # fmt: skip


def upcast_pain(event: dict[str, Any]) -> dict[str, Any]:
    """The mended reader: v0 called the score `vas`."""
    data = dict(event["data"])
    return {**event, "type": "org.careloop.pain.reported.v1", "data": {**data, "score": data.pop("vas")}}


def old_pain(member: Any, score: int, **envelope: Any) -> bytes:
    """An event of an older version, which today's reader does not know."""
    raw = orjson.loads(encode(pain(member, score)))
    data = raw.pop("data")
    return orjson.dumps({**raw, "type": OLD_PAIN, "data": {**data, "vas": data.pop("score")}, **envelope})


def readers(upcasters: Mapping[str, Upcaster] | None = None) -> Mapping[str, Reader]:
    """The probe's, as a newer version of it would have them."""
    subscriptions = (
        Subscription(topic=ACTIVITY, group="probe.activity", run=follow_activity),
        Subscription(topic=ACTIVITY, group="probe.safety", run=raise_red_flags, stateless=True),
        Subscription(topic=MEMBERS, group="probe.members", run=follow_members),
    )
    return {s.group: Reader(s, Decoder(TOPIC_OF[s.topic], upcasters=upcasters or {})) for s in subscriptions}


@dataclass
class Operator:
    """Somebody at the command line, on this database."""

    url: str
    readers: Mapping[str, Reader] = field(default_factory=readers)

    async def __call__(self, action: Action, held_id: int | None = None, **options: Any) -> list[Done]:
        """Replay or discard one, or all that `options["filters"]` lets through."""
        database = await open_database(self.url, connections=2, application="operator")
        request = Request(action=action, who="operator", why="a test", held_id=held_id, **options)
        runner = Runner(service="probe", database=database, readers=self.readers, clock=WallClock(), request=request)
        try:
            return [done async for done in runner.run()]
        finally:
            await database.close()


async def fix(running: RunningService) -> None:
    """The handler no longer raises at a 9."""
    await running.service.database.execute("insert into switches values ('fixed')")


async def snapshot(running: RunningService) -> dict[str, list[asyncpg.Record]]:
    """Every row that anybody could see a difference in."""
    return {
        table: await running.service.database.fetch(f"select * from {table} t order by t::text") for table in TABLES
    }


async def outcomes(running: RunningService) -> dict[str, int]:
    rows = await running.service.database.fetch("select outcome, count(*) from delivery.inbox group by 1")
    return {row["outcome"]: row["count"] for row in rows}


async def books_agree(running: RunningService) -> bool:
    """Held events and inbox tell the same story."""
    async with running.service.database.acquire() as connection:
        return await count_disagreeing(connection) == Disagreeing(held=0, told=0)


__all__ = ["Filters", "Operator", "books_agree", "fix", "old_pain", "outcomes", "readers", "snapshot", "upcast_pain"]
