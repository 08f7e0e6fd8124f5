"""Brokers that move, deny or know of nothing for a while: once they are well again nobody has to restart a service."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError, InconsistentGroupProtocolError, KafkaError
from aiokafka.structs import BrokerMetadata

from shared import health
from shared.service import Service
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService
from tests.shared.delivery.conftest import RED_FLAG, effects_are
from tests.shared.delivery.probe import ACTIVITY, pain

NOBODY = BrokerMetadata(1, "127.0.0.1", 1, None)
"""At an address at which no broker answers."""


async def takes_events(running: RunningService, publish: Publish, consume: Consume, *, count: int) -> None:
    """One more event takes effect, and so does the red flag in it; `count` events are told of it and those before."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 3, findings=RED_FLAG))
    await eventually(lambda: effects_are(running, member, [3]), within=40)
    await consume("careloop.plans", count=count, within=40)
    await running.settled(within=40)


def clients(service: Service) -> list[Any]:
    """Of the consumers and of whoever publishes and asks how long the log is."""
    assert service.relay
    outflows = [outflow for outflow in (service.relay._urgent, service.relay._bulk) if outflow]
    producers = [shared.producer for outflow in outflows if (shared := outflow._sender._main)]
    consumers = [intake.consumer._client for intake in service.intakes]
    assert service._log_ends._consumer
    return [*consumers, *(producer.client for producer in producers), service._log_ends._consumer._client]


async def test_brokers_that_have_other_addresses_now_are_found(
    probe: RunningService, publish: Publish, consume: Consume
) -> None:
    """Given clients that know brokers at addresses at which nobody answers any more, then those are asked that the
    settings name."""
    await takes_events(probe, publish, consume, count=2)
    found = clients(probe.service)
    assert len(found) == len(probe.service.intakes) + 3
    for client in found:
        client.cluster._brokers = dict.fromkeys(client.cluster._brokers, NOBODY)
        for connection in list(client._conns.values()):
            connection.close()
    await takes_events(probe, publish, consume, count=4)


@pytest.mark.parametrize("failure", [GroupAuthorizationFailedError("probe"), KeyError("probe")])
async def test_a_group_that_was_denied_for_a_moment_is_joined_again(
    probe: RunningService, publish: Publish, consume: Consume, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Given a heartbeat that was told that it may not, or failed as nobody foresaw, when it may again, then the group
    goes on."""

    async def denied(coordinator: GroupCoordinator) -> bool:
        raise failure

    await takes_events(probe, publish, consume, count=2)
    monkeypatch.setattr(GroupCoordinator, "_do_heartbeat", denied)
    coordinators = [intake.consumer._coordinator for intake in probe.service.intakes]
    await eventually(lambda: all(one._heartbeat_task.done() for one in coordinators), within=20)
    monkeypatch.undo()
    await takes_events(probe, publish, consume, count=4)


@pytest.mark.parametrize("refusal", [InconsistentGroupProtocolError(), KafkaError("GroupMaxSizeReachedError")])
async def test_a_process_that_its_groups_do_not_let_in_is_not_ready(
    probe: RunningService, publish: Publish, consume: Consume, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    """Given a group that somebody with another protocol has taken, or that has members enough, while a process was
    away, then that process reads nothing and says so, until it is let in again."""

    async def refused(coordinator: GroupCoordinator, subscription: Any) -> bool:
        raise refusal

    async def says(*, ready: bool) -> bool:
        answer = (await probe.client.get("/health/ready")).json()
        assert answer["ready"] is ready, answer
        groups = {intake.subscription.group for intake in probe.service.intakes}
        assert ready or {group for group in groups if f"{group}: Kafka has refused" in str(answer)} == groups, answer
        return True

    await takes_events(probe, publish, consume, count=2)
    monkeypatch.setattr(health, "STUCK_S", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(GroupCoordinator, "_do_rejoin_group", refused)
        for intake in probe.service.intakes:
            intake.consumer._coordinator.request_rejoin()
        await eventually(partial(says, ready=False), within=20)
    await takes_events(probe, publish, consume, count=4)
    await eventually(partial(says, ready=True), within=20)


async def test_a_topic_of_which_no_broker_told_for_a_moment_is_read_again(
    probe: RunningService, publish: Publish, consume: Consume, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a topic that no broker knew, or told of to us, when they do, then it is read within seconds: the client
    asks again after five minutes by itself."""
    partitions_for_topic: Callable[..., Any] = ClusterMetadata.partitions_for_topic
    hidden = f"{namespace}.{ACTIVITY}"

    def without(metadata: ClusterMetadata, topic: str) -> Any:
        return None if topic == hidden else partitions_for_topic(metadata, topic)

    await takes_events(probe, publish, consume, count=2)
    readers = [intake for intake in probe.service.intakes if intake.subscription.topic == ACTIVITY]
    with monkeypatch.context() as patch:
        patch.setattr(ClusterMetadata, "partitions_for_topic", without)
        for intake in readers:
            intake.consumer._client.force_metadata_update()
        await eventually(lambda: not any(intake.consumer.assignment() for intake in readers), within=20)
    await takes_events(probe, publish, consume, count=4)
