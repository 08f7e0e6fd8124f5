"""Given a partition that is assigned and cannot be opened, somebody is told; the others are opened all the same."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata

from shared.migrating import migrate
from tests.fixtures.databases import connected, with_database
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume, Publish, RunService
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.conftest import PARTITIONS, RED_FLAG, partition_of
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, add_tables, build, pain


async def test_a_partition_whose_position_may_not_be_read_is_told(
    servers: RunningServers,
    role: str,
    topics: TopicFactory,
    run_service: RunService,
    publish: Publish,
) -> None:
    """Such as a grant that was forgotten, or a table that somebody holds: red flags are accepted, and nobody looks."""
    await topics(ACTIVITY, MEMBERS, "careloop.plans", partitions=PARTITIONS)
    url = with_database(servers.postgres_url, database=role, user=role, password="first")
    await migrate(url, service="probe")
    await add_tables(url)
    async with connected(url) as owner:
        await owner.execute(f"revoke insert on delivery.positions from {role}")
    async with run_service(build, name="probe", database_url=url, wait=False) as running:
        await eventually(lambda: running.service.health.started, within=30)
        await eventually(lambda: all(i.assigned_once for i in running.service.intakes), within=30)
        await publish(ACTIVITY, pain(uuid4(), 1, findings=RED_FLAG))

        async def told() -> bool:
            answer = await running.client.get("/health/ready")
            assert answer.status_code == 503, answer.text
            return True

        await eventually(told, within=40, what="somebody is told that no partition is read")
        intake = running.service.intakes[0]
        await eventually(lambda: len(intake.unopened()) == PARTITIONS, within=20)
        gone, left = intake.unopened()
        await intake.on_partitions_revoked([gone])
        assert intake.unopened() == [left], "another process has the other one now"
        async with connected(url) as owner:
            await owner.execute(f"grant insert on delivery.positions to {role}")

        async def ready() -> bool:
            answer = await running.client.get("/health/ready")
            assert answer.status_code == 200, answer.text
            return True

        await eventually(ready, within=40, what="nobody is told any more once they are read")


def member_in(partition: int) -> UUID:
    return next(one for one in iter(uuid4, None) if partition_of(one) == partition)


async def test_a_partition_without_a_leader_does_not_hold_up_the_opening_of_others(
    run_service: RunService,
    probe_url: str,
    publish: Publish,
    namespace: str,
    consume: Consume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leader_for_partition = ClusterMetadata.leader_for_partition

    def leader(metadata: ClusterMetadata, place: TopicPartition) -> Any:
        return -1 if place == (f"{namespace}.{ACTIVITY}", 0) else leader_for_partition(metadata, place)

    monkeypatch.setattr(ClusterMetadata, "leader_for_partition", leader)
    await publish(ACTIVITY, pain(member_in(1), 1, findings=RED_FLAG))
    async with run_service(build, name="probe", database_url=probe_url):
        await consume("careloop.plans", count=1, within=15)
