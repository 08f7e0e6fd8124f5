"""Given a group that no broker looks after, when its position changes, then the partition is opened again."""

from typing import Any
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CoordinatorNotAvailableError

from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.conftest import effects_are
from tests.shared.delivery.probe import ACTIVITY, pain

SET_BACK = "update delivery.positions set next_offset = 0 where consumer_group = 'probe.activity'"


async def test_a_position_that_cannot_be_told_keeps_no_partition_from_being_looked_at(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the broker that has the group's positions has failed, and no other may: the log can be read on."""
    await probe.settled()

    async def nobody(*_: Any) -> Any:
        raise CoordinatorNotAvailableError

    monkeypatch.setattr(AIOKafkaClient, "coordinator_lookup", nobody)
    for intake in probe.service.intakes:
        intake.consumer._coordinator.coordinator_dead()
    member, database = uuid4(), probe.service.database
    await publish(ACTIVITY, pain(member, 2))
    await eventually(lambda: effects_are(probe, member, [2]), within=20, what="the log is read on")
    async with database.acquire() as connection, connection.transaction():  # set back, as when it was restored
        await connection.execute("delete from effects")
        await connection.execute("delete from delivery.inbox")
        await connection.execute(SET_BACK)
    await eventually(lambda: effects_are(probe, member, [2]), within=30)
