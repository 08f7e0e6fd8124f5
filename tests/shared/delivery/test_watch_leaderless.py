"""Given a partition without a leader, when another position of its topic changes, that one is opened again."""

from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata

from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.conftest import effects_are, partition_of
from tests.shared.delivery.probe import ACTIVITY, pain

SET_BACK = "update delivery.positions set next_offset = 0 where consumer_group = 'probe.activity' and partition = 1"


async def test_a_partition_without_a_leader_keeps_no_other_from_being_looked_at(
    probe: RunningService, publish: Publish, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = next(one for one in iter(uuid4, None) if partition_of(one) == 1)
    await publish(ACTIVITY, pain(member, 2))
    await probe.settled()
    leader_for_partition = ClusterMetadata.leader_for_partition
    gone = TopicPartition(f"{namespace}.{ACTIVITY}", 0)

    def leader(metadata: ClusterMetadata, place: TopicPartition) -> Any:
        return -1 if place == gone else leader_for_partition(metadata, place)

    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", leader)
    database = probe.service.database  # set back, as when it was restored
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("delete from effects")
        await connection.execute("delete from delivery.inbox")
        await connection.execute(SET_BACK)
    await eventually(lambda: effects_are(probe, member, [2]), within=50)
