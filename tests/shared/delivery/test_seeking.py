"""Given that log, position and reader no longer agree, when nobody publishes anything, then it is noticed all the same:
read again where that is right, stopped with an alarm where only an operator can know."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from shared.intake import Intake
from shared.topics import group_name, topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.books import GROUP
from tests.shared.delivery.conftest import effects_are, neighbour_of, partition_of
from tests.shared.delivery.probe import ACTIVITY, build, pain

SNAPSHOT = "select consumer_group, topic, partition, next_offset, clock_timestamp() as at from delivery.positions"
RESTORE = """
update delivery.positions set next_offset = $4 where consumer_group = $1 and topic = $2 and partition = $3
"""


async def lose_the_last(probe: RunningService, publish: Publish, member: UUID) -> None:
    """Scores 1 and 2 take effect; then the database fails over to a replica that lacks the second."""
    database = probe.service.database
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    positions = await database.fetch(SNAPSHOT)
    await publish(ACTIVITY, pain(member, 2, event_id="lost"))
    await probe.settled()
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("delete from effects where event_id = 'lost'")
        await connection.execute("delete from delivery.inbox where taken_at > $1", positions[0]["at"])
        for row in positions:
            await connection.execute(RESTORE, *list(row.values())[:4])


async def test_a_restored_database_is_brought_up_to_date_although_nothing_comes(
    probe: RunningService, publish: Publish
) -> None:
    member = uuid4()
    await lose_the_last(probe, publish, member)
    await eventually(partial(effects_are, probe, member, [1, 2]), within=30)


async def test_a_restored_database_under_a_stream_loses_and_doubles_nothing(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk in hand begins after the position that was restored: it is read again from there, without anybody who
    looks after idle partitions."""
    monkeypatch.setattr("shared.watching.CHECK_S", 1_000.0)
    member = uuid4()
    await lose_the_last(probe, publish, member)
    await publish(ACTIVITY, pain(member, 3))
    await eventually(partial(effects_are, probe, member, [1, 2, 3]))


async def test_a_restored_database_that_knows_of_no_position_gets_one_although_nothing_comes(
    probe: RunningService, publish: Publish
) -> None:
    """It was saved before the partition was assigned for the first time: all that the log holds is taken."""
    member, database = uuid4(), probe.service.database
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    async with database.acquire() as connection, connection.transaction():
        for table in ("effects", "delivery.inbox", "delivery.positions"):
            await connection.execute(f"delete from {table}")
    await eventually(partial(effects_are, probe, member, [1]), within=30)


async def alarmed(probe: RunningService) -> bool:
    answer = await probe.client.get("/health/ready")
    assert answer.status_code == 503, answer.text
    assert "outside the log" in answer.text
    return True


async def next_offset(probe: RunningService, partition: int) -> int:
    find = "select next_offset from delivery.positions where consumer_group = 'probe.activity' and partition = $1"
    return int(await probe.service.database.fetchval(find, partition))


async def set_position(probe: RunningService, partition: int, offset: int) -> None:
    move = "update delivery.positions set next_offset = $2 where consumer_group = 'probe.activity' and partition = $1"
    await probe.service.database.execute(move, partition, offset)


async def test_a_position_past_the_end_stops_the_partition_and_swallows_nothing(
    probe: RunningService, publish: Publish
) -> None:
    member = uuid4()
    neighbour = neighbour_of(member)
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    partition = partition_of(member)
    right = await next_offset(probe, partition)
    await set_position(probe, partition, 999_999)
    await eventually(partial(alarmed, probe), within=30)
    await publish(ACTIVITY, pain(member, 2), pain(neighbour, 3))
    await set_position(probe, partition, right)
    await eventually(partial(effects_are, probe, member, [1, 2]), within=30)
    await eventually(partial(effects_are, probe, neighbour, [3]))
    assert (await probe.client.get("/health/ready")).status_code == 200


async def stand_outside_the_log(probe: RunningService, publish: Publish) -> None:
    """One partition of the group does, and has alarmed."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    await set_position(probe, partition_of(member), 999_999)
    await eventually(partial(alarmed, probe), within=30)


async def test_a_log_that_has_become_shorter_than_the_position_stops_the_partition_although_nothing_comes(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a topic that was made anew while nobody looked: what comes below the position would be passed over."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    intake = next(one for one in probe.service.intakes if one.subscription.group == GROUP)
    here = next(one for one in intake.lanes if one.partition == partition_of(member))

    async def shorter(_: object, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return dict.fromkeys(partitions, (0, 0))

    monkeypatch.setattr("shared.watching.CHECK_S", 0.0)
    monkeypatch.setattr("shared.watching.load_spans", shorter)
    monkeypatch.setattr("shared.intake.load_spans", shorter)
    await eventually(lambda: here in intake.paused_by_alarm, within=20)


async def test_nothing_is_settled_while_a_partition_stands_outside_the_log(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand_outside_the_log(probe, publish)
    monkeypatch.setattr("shared.intake.STUCK_S", 0.0)
    assert not any(intake.unopened() for intake in probe.service.intakes), "that has an alarm of its own"
    progress = (await probe.client.get("/health/progress")).json()
    assert (progress["partitions_opening"], progress["lag"], progress["settled"]) == (1, 0, False)


async def test_whoever_loses_a_partition_that_stands_outside_the_log_is_ready_again(
    probe: RunningService, publish: Publish
) -> None:
    """Another process has the partition now, and the alarm with it."""
    await stand_outside_the_log(probe, publish)
    (intake,) = [intake for intake in probe.service.intakes if intake.subscription.group == "probe.activity"]
    await intake.on_partitions_revoked(list(intake.paused_by_alarm))
    answer = await probe.client.get("/health/ready")
    assert answer.status_code == 200, answer.text


async def test_retention_that_passes_a_slow_reader_stops_it_with_an_alarm(
    run_service: RunService, probe_url: str, publish: Publish, servers: RunningServers, namespace: str
) -> None:
    async with run_service(build, name="probe", database_url=probe_url, chunk_records=10) as probe:
        member = uuid4()
        await publish(ACTIVITY, pain(member, 1))
        await probe.settled()
        other = await asyncpg.connect(probe_url)
        try:
            async with other.transaction():  # whatever holds it up: the database is slower than retention
                await other.fetch("select from delivery.positions where consumer_group = 'probe.activity' for update")
                partition = TopicPartition(topic_name(namespace, ACTIVITY), partition_of(member))
                await publish(ACTIVITY, *(pain(member, 1) for _ in range(100)))
                await eventually(partial(is_stopped, probe, partition))
                await publish(ACTIVITY, *(pain(member, 1) for _ in range(200)))
                await delete_before(servers, partition, 281)
        finally:
            await other.close()
        await eventually(partial(alarmed, probe), within=40)
        assert await next_offset(probe, partition.partition) < 281


async def test_retention_that_passes_a_reader_to_which_nothing_comes_stops_it_with_an_alarm(
    probe: RunningService, publish: Publish, servers: RunningServers, namespace: str
) -> None:
    """No record behind the gap shows it."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    partition = TopicPartition(topic_name(namespace, ACTIVITY), partition_of(member))
    (intake,) = [intake for intake in probe.service.intakes if intake.subscription.group == "probe.activity"]
    intake.consumer.pause(partition)
    await publish(ACTIVITY, pain(member, 2), pain(member, 3))
    await delete_before(servers, partition, 3)
    await eventually(partial(alarmed, probe), within=40)
    assert await next_offset(probe, partition.partition) == 1


def is_stopped(probe: RunningService, partition: TopicPartition) -> bool:
    """The lane is full, so that polling this partition has stopped before the end."""
    (intake,) = [intake for intake in probe.service.intakes if intake.subscription.group == "probe.activity"]
    return partition in intake.consumer.paused() and 1 < intake.lanes[partition].end < 281


async def delete_before(servers: RunningServers, partition: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_a_poll_that_brings_nothing_is_told(probe: RunningService, publish: Publish) -> None:
    """Such as after a batch that the client cannot read: the log grows, and no record of it comes."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    (intake,) = [intake for intake in probe.service.intakes if intake.subscription.group == "probe.activity"]
    for partition in intake.lanes:
        intake.consumer.pause(partition)
    await publish(ACTIVITY, pain(member, 2))

    async def told() -> bool:
        answer = await probe.client.get("/health/ready")
        assert answer.status_code == 503, answer.text
        assert "brings nothing" in answer.text
        return True

    await eventually(told, within=60)
    for partition in intake.lanes:
        intake.consumer.resume(partition)
    await eventually(partial(effects_are, probe, member, [1, 2]))

    async def ready() -> bool:
        return (await probe.client.get("/health/ready")).status_code == 200

    await eventually(ready, within=30)


async def test_what_was_polled_before_the_position_was_sought_is_dropped(
    run_service: RunService,
    servers: RunningServers,
    namespace: str,
    probe_url: str,
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given a client that begins where Kafka was last told, ahead of the stored position, when it polls before the
    service has sought, then that is dropped and everything from the stored position on takes effect, in order."""
    member, polled, sought = uuid4(), list[int](), asyncio.Event()
    await publish(ACTIVITY, *(pain(member, score) for score in range(6)))
    place = TopicPartition(topic_name(namespace, ACTIVITY), partition_of(member))
    group = group_name(namespace, "probe.activity")
    told = AIOKafkaConsumer(bootstrap_servers=servers.kafka_bootstrap, group_id=group, enable_auto_commit=False)
    await told.start()
    told.assign([place])
    await told.commit({place: 4})
    await told.stop()
    locate, receive = Intake._locate, Intake._receive

    async def locate_late(intake: Intake, partitions: list[TopicPartition], *, count_start: bool = False) -> Any:
        if intake.subscription.group == "probe.activity" and not sought.is_set():
            intake.consumer.resume(*partitions)  # as if it had polled just before it was told to pause
            await sought.wait()
            intake.consumer.pause(*partitions)
        return await locate(intake, partitions, count_start=count_start)

    def note(intake: Intake, found: Any) -> None:
        if intake.subscription.group == "probe.activity" and not intake.lanes:
            polled.extend(record.offset for records in found.values() for record in records)
        receive(intake, found)

    monkeypatch.setattr(Intake, "_locate", locate_late)
    monkeypatch.setattr(Intake, "_receive", note)
    async with run_service(build, name="probe", database_url=probe_url, wait=False) as running:
        await eventually(lambda: polled, what="it has polled")
        sought.set()
        await eventually(lambda: running.service.health.started, what="it has started")
        await eventually(partial(effects_are, running, member, [0, 1, 2, 3, 4, 5]))
    assert polled[0] == 4


async def test_a_start_counts_only_where_something_is_to_be_taken(probe: RunningService) -> None:
    count = "select count(*) = 6 from delivery.positions"
    await eventually(lambda: probe.service.database.fetchval(count), within=20, what="all is assigned")
    assert await probe.service.database.fetchval("select max(stalled_starts) from delivery.positions") == 0
