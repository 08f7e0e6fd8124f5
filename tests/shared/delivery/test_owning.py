"""Who owns a partition in this process: one task each, from an assignment until it is taken away."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from faststream.kafka import KafkaBroker

from shared import watching
from shared.clock import monotonic
from shared.intake import STUCK_S, UNDELIVERED_CHECKS, Intake
from shared.kafka import is_over
from shared.lanes import Lane
from shared.watching import Watch
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.conftest import PARTITIONS, effects_are, partition_of
from tests.shared.delivery.probe import ACTIVITY, build, pain


def owners() -> Counter[str]:
    """Tasks that own a partition or look for its position, by group."""
    found: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        if coroutine.__qualname__ == "Intake._own" and coroutine.cr_frame is not None:
            found[coroutine.cr_frame.f_locals["self"].subscription.group] += 1
    return found


async def test_a_start_that_failed_half_way_leaves_nobody_behind(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a broker that goes away when two of three groups have their partitions, when the start is tried again, then
    each partition has one owner, and each event takes effect."""
    started, failed = list[str](), list[str]()
    subscribe = Intake.subscribe

    def subscribe_in_vain(intake: Intake, broker: Any) -> None:
        subscribe(intake, broker)
        start = intake._subscriber.start

        async def fail_once() -> None:
            if len(started) == 2 and not failed:
                await eventually(lambda: len(owners()) == 2, within=20, what="two groups have begun")
                failed.append(intake.subscription.group)
                raise KafkaConnectionError
            await start()
            started.append(intake.subscription.group)

        intake._subscriber.start = fail_once

    monkeypatch.setattr(Intake, "subscribe", subscribe_in_vain)
    async with run_service(build, name="probe", database_url=probe_url) as running:
        member = uuid4()
        await publish(ACTIVITY, pain(member, 3))
        await eventually(lambda: effects_are(running, member, [3]))
        assert failed
        one_each = dict.fromkeys(("probe.activity", "probe.safety", "probe.members"), PARTITIONS)
        await eventually(lambda: owners() == one_each, within=20, what="each partition has one owner")


def clients_of(broker: Any) -> list[Any]:
    return [subscriber.consumer for subscriber in broker.subscribers]


async def test_a_start_that_failed_and_could_not_be_stopped_leaves_no_client_behind(
    run_service: RunService, probe_url: str, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a broker that stands still when a start has failed, so that leaving the group takes too long, then nothing
    of the old clients goes on: a heartbeat would keep their places, and the group would wait for them."""
    old = list[Any]()
    start, stop = KafkaBroker.start, KafkaBroker.stop

    async def fail_once(broker: KafkaBroker) -> None:
        await start(broker)
        if not old:
            old.extend(clients_of(broker))
            raise KafkaConnectionError

    async def never_the_first(broker: KafkaBroker, *reason: Any) -> None:
        if old and clients_of(broker) == old:
            await asyncio.Event().wait()
        await stop(broker, *reason)

    monkeypatch.setattr(KafkaBroker, "start", fail_once)
    monkeypatch.setattr(KafkaBroker, "stop", never_the_first)
    async with run_service(build, name="probe", database_url=probe_url) as running:
        member = uuid4()
        await publish(ACTIVITY, pain(member, 3))
        await eventually(lambda: effects_are(running, member, [3]))
        assert len(old) == len(running.service.intakes)
        for consumer in old:
            assert is_over(consumer)
            assert consumer._coordinator._heartbeat_task.done()
            assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_a_partition_that_is_taken_away_while_it_is_opened_again_is_let_go(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a partition that must begin again while it has a chunk in hand, when the group takes it away before that
    chunk has ended, then nobody goes on with it."""
    await probe.settled()
    intake = probe.service.intakes[0]
    (partition,) = [one for one in intake.lanes if one.partition == 0]
    taking, may_end, take = asyncio.Event(), asyncio.Event(), intake._taker.take

    async def take_slowly(*what: Any, **more: Any) -> None:
        taking.set()
        await may_end.wait()
        await take(*what, **more)

    monkeypatch.setattr(intake._taker, "take", take_slowly)
    member = next(one for one in iter(uuid4, None) if partition_of(one) == 0)
    await publish(ACTIVITY, pain(member, 3))
    await asyncio.wait_for(taking.wait(), 20)
    intake.reopen(partition)
    releasing = asyncio.create_task(intake.on_partitions_revoked([partition]))
    may_end.set()
    await releasing
    assert partition not in intake._tasks
    await eventually(lambda: owners()["probe.activity"] == PARTITIONS - 1, within=20)
    await intake.on_partitions_assigned([partition])
    await eventually(lambda: effects_are(probe, member, [3]))


@pytest.mark.parametrize("way", ["revoked", "opened again"])
async def test_that_polling_brought_nothing_is_told_of_no_partition_that_was_let_go(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Given a partition of which polling brought nothing, when another process is given it, or it is opened again at
    the same place, then this one does not tell of it: whoever is woken for that would find nothing."""
    await probe.settled()
    intake = probe.service.intakes[0]
    partition = next(iter(intake.lanes))

    async def hears_nothing(*_: object) -> bool:
        return True

    monkeypatch.setattr("shared.watching.CHECK_S", 0.0)
    monkeypatch.setattr(Watch, "_is_silent", hears_nothing)
    await eventually(lambda: partition in intake.undelivered(), within=20)
    if way == "revoked":
        await intake.on_partitions_revoked([partition])
    else:
        silent = intake.lanes[partition]
        intake.reopen(partition)
        await eventually(lambda: intake.lanes.get(partition, silent) is not silent, within=20)
    assert partition not in intake.undelivered()


@pytest.mark.parametrize("answers", ["load_positions", "load_spans"])
async def test_what_is_let_go_while_it_is_looked_at_is_not_looked_at_any_more(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    """The client knows nothing of it then, and fails with what counts as a bug: each time that a process was added to a
    group could wake somebody."""
    await probe.settled()
    intake, asked = probe.service.intakes[0], list[object]()
    lanes, really_answers = dict(intake.lanes), getattr(watching, answers)
    assert lanes

    async def answer_late(*question: Any) -> Any:
        answer = await really_answers(*question)
        await intake.on_partitions_revoked(list(lanes))
        for name in ("highwater", "beginning_offsets", "end_offsets"):
            monkeypatch.setattr(intake.consumer, name, asked.append)
        return answer

    monkeypatch.setattr(watching, answers, answer_late)
    await Watch(intake)._check(lanes)
    assert (asked, intake.lanes) == ([], {})


async def test_who_is_found_behind_now_and_again_and_gets_on_is_not_told_of(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log that was ahead of polling at each look, when something of it had come before the next, then polling
    brings what there is; where nothing has come for as many looks in a row, it does not."""

    async def is_behind(*_: object) -> bool:
        return True

    watch = Watch(probe.service.intakes[0])
    monkeypatch.setattr(watch, "_is_silent", is_behind)
    lane = Lane(TopicPartition(ACTIVITY, 0), start=0, cautious=False)
    for _ in range(2 * UNDELIVERED_CHECKS):
        lane.end += 1
        await watch._listen(lane, lane.end + 1, still=True)
        assert lane.silent_checks == 1
    for _ in range(UNDELIVERED_CHECKS - 1):
        await watch._listen(lane, lane.end + 1, still=True)
    assert lane.silent_checks == UNDELIVERED_CHECKS


async def test_a_position_that_kafka_did_not_take_is_told_again(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lag metrics read it; a group at rest would show what has long been taken as lag."""
    await probe.settled()
    (intake,) = [one for one in probe.service.intakes if one.subscription.group == "probe.activity"]
    tried, commit = list[dict[Any, int]](), intake.consumer.commit

    async def fail_once(offsets: dict[Any, int]) -> None:
        if 1 in offsets.values():  # behind the event, and not where the group began
            tried.append(dict(offsets))
            if len(tried) == 1:
                raise KafkaConnectionError
        await commit(offsets)

    monkeypatch.setattr(intake.consumer, "commit", fail_once)
    await publish(ACTIVITY, pain(uuid4(), 1))
    await eventually(lambda: len(tried) == 2, within=15, what="it is told again")
    assert tried[1] == tried[0]


async def test_whoever_loses_a_partition_that_could_not_be_opened_is_ready_again(probe: RunningService) -> None:
    """Another process has the partition now, and whatever it is that keeps it closed."""
    await probe.settled()
    intake = probe.service.intakes[0]
    partition = next(iter(intake.lanes))
    intake._closed_since[partition] = monotonic() - STUCK_S - 1
    answer = await probe.client.get("/health/ready")
    assert answer.status_code == 503, answer.text
    assert "1 partitions cannot be opened" in answer.text
    await intake.on_partitions_revoked([partition])
    answer = await probe.client.get("/health/ready")
    assert answer.status_code == 200, answer.text


async def test_who_has_let_go_of_all_partitions_takes_no_other(probe: RunningService) -> None:
    """Given a process that ends, when its group is shared out anew before it has left, then it begins nothing: without
    its client it could only fail, again and again, and a start without progress would be counted."""
    await probe.settled()
    intake = probe.service.intakes[0]
    assert owners()[intake.subscription.group] == PARTITIONS
    await intake.release_all()
    await intake.on_partitions_assigned(intake.consumer.assignment())
    assert owners()[intake.subscription.group] == 0
    assert intake.unopened() == []
