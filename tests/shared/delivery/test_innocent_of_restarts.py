"""Given a table that somebody else holds, as who builds an index does, when partitions are handed on meanwhile, then no
event is blamed for that: no process died of it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.conftest import RED_FLAG, effects_are, held
from tests.shared.delivery.probe import ACTIVITY, pain

HANDED_ON = 12
"""Times. Six processes restarted one after the other hand on as often: each leaves and comes back."""
WAITS = """
select count(*) > 0 from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
"""


@pytest.fixture
async def builder(probe_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(probe_url)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(probe_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """In no transaction: within one, those that were there at its first look are all that it ever sees."""
    connection = await asyncpg.connect(probe_url)
    yield connection
    await connection.close()


async def test_no_event_is_condemned_for_partitions_that_are_handed_on(
    probe: RunningService,
    builder: "asyncpg.Connection[asyncpg.Record]",
    watcher: "asyncpg.Connection[asyncpg.Record]",
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.intake.DRAIN_S", 0.2)  # only to be quick
    await probe.settled()
    member = uuid4()
    async with builder.transaction():
        await builder.execute("lock table delivery.outbox in share mode")  # as `create index` does
        await publish(ACTIVITY, pain(member, 1, findings=RED_FLAG))
        for _ in range(HANDED_ON):
            await eventually(lambda: all(len(i.lanes) == 2 for i in probe.service.intakes), within=20)
            await eventually(lambda: watcher.fetchval(WAITS), within=20, what="it is in hand")
            for intake in probe.service.intakes:
                partitions = list(intake._tasks)
                await intake.on_partitions_revoked(partitions)
                await intake.on_partitions_assigned(partitions)
    await probe.settled()
    assert [row["reason"] for row in await held(probe, "probe.safety")] == []
    assert [row["reason"] for row in await held(probe, "probe.activity")] == []
    await eventually(lambda: effects_are(probe, member, [1]), within=20)
