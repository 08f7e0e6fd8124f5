"""Groups of one topic that the same processes read share it out alike: what one tells the other about a partition, the
other has (shared/intake.py)."""

import random
from types import SimpleNamespace
from uuid import UUID

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from shared.broker import build_broker
from shared.kafka import client_options
from shared.settings import ServiceSettings

TOPIC, PARTITIONS = "careloop.activity", 12


def _shared_out(names: list[str]) -> dict[int, str]:
    """Which process has which partition, where a broker has named the member of each with its client id."""
    members = {f"{name}-{UUID(int=random.getrandbits(128))}": name for name in names}
    metadata = {member: ConsumerProtocolMemberMetadata(0, [TOPIC], b"") for member in members}
    cluster = SimpleNamespace(partitions_for_topic=lambda _: set(range(PARTITIONS)))
    shared = RoundRobinPartitionAssignor.assign(cluster, metadata)
    return {
        partition: members[member]
        for member, assignment in shared.items()
        for _, partitions in assignment.assignment
        for partition in partitions
    }


def test_groups_of_the_same_processes_have_the_same_partitions() -> None:
    names = [f"careloop-plans-7d9f-{number}" for number in range(5)]
    first = _shared_out(names)
    assert set(first) == set(range(PARTITIONS))
    assert set(first.values()) == set(names)
    for _ in range(20):
        random.shuffle(names)
        assert _shared_out(names) == first


def test_every_client_of_a_process_has_its_name() -> None:
    settings = ServiceSettings(database_url="postgresql://not.used", port=0)
    name = client_options(settings)["client_id"]
    assert name.startswith("careloop-")
    assert build_broker(settings).config.broker_config.client_id == name
