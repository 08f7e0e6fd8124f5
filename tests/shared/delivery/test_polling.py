"""A poll that found nothing is followed by the next one at once, so that what comes at rest waits for nothing; what it
finds goes to the lanes and nowhere else."""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from shared import intake as intake_module
from shared.lanes import Lane
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunningService

FIRST, SECOND = TopicPartition("careloop.activity", 0), TopicPartition("careloop.activity", 3)


class Client:
    """Answers polls at once, so that whatever else a poll waits for shows."""

    def __init__(self, *answers: dict[TopicPartition, list[str]]) -> None:
        self._answers = list(answers)

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[str]]:
        return self._answers.pop(0)


def run_without_waiting(work: Coroutine[Any, Any, Any]) -> Any:
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    return ended.value.value


async def test_the_next_poll_begins_at_once(probe: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given FastStream's own loop, when its client has nothing, then it is asked again without a pause."""
    intake, received = probe.service.intakes[0], list[Any]()
    found = {FIRST: ["a", "b"], SECOND: ["c"]}
    client = Client({}, found)
    monkeypatch.setattr(intake, "_receive", received.append)
    assert run_without_waiting(intake._subscriber.get_msg(client)) == ()
    assert run_without_waiting(intake._subscriber.get_msg(client)) == ()
    assert received == [{}, found]


async def test_it_is_this_poll_that_the_loop_of_faststream_uses(probe: RunningService) -> None:
    intake = probe.service.intakes[0]
    polled: list[Any] = []

    async def poll(consumer: Any) -> tuple[()]:
        polled.append(consumer)
        intake._subscriber.running = False
        return ()

    own, intake._subscriber.get_msg = intake._subscriber.get_msg, poll
    try:
        await intake._subscriber._run_consume_loop(intake.consumer)
    finally:
        intake._subscriber.get_msg, intake._subscriber.running = own, True
    assert own == intake._poll
    assert polled == [intake.consumer]


class Broken:
    """A client whose poll fails, after it has taken records of other partitions."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[str]]:
        raise self._error


@pytest.mark.parametrize("error", [CorruptRecordException(), ValueError()])
async def test_after_a_poll_that_failed_every_lane_is_read_from_its_end(
    probe: RunningService, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a client that raises in the middle of a poll, then nothing that it had taken by then is passed over; what
    Kafka's client raises is FastStream's to judge, and a bug ends nobody's polling."""
    intake, sought, slept = probe.service.intakes[0], dict[TopicPartition, int](), list[float]()
    await eventually(lambda: intake.lanes, within=20)
    lanes = {partition: lane.end for partition, lane in intake.lanes.items()}

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(intake.consumer, "seek", sought.__setitem__)
    monkeypatch.setattr(intake_module, "asyncio", SimpleNamespace(sleep=sleep))
    if isinstance(error, KafkaError):
        with pytest.raises(CorruptRecordException):
            intake._poll(Broken(error)).send(None)
        assert slept == []
    else:
        assert run_without_waiting(intake._poll(Broken(error))) == ()
        assert slept == [intake_module.POLL_AGAIN_S]
    assert sought == lanes


async def test_a_gap_that_could_not_be_asked_about_stops_nobody(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a gap in the log, when the broker cannot say what it still holds, then the partition is read again."""
    await probe.settled()
    intake, sought = probe.service.intakes[0], list[tuple[TopicPartition, int]]()
    (partition, lane), *_ = intake.lanes.items()

    async def no_answer(_: Any) -> Any:
        raise KafkaError

    monkeypatch.setattr(intake.consumer, "beginning_offsets", no_answer)
    monkeypatch.setattr(intake.consumer, "seek", lambda *where: sought.append(where))
    intake.consumer.pause(partition)
    await intake._judge_gap(partition, lane, [])
    assert sought == [(partition, lane.end)]
    assert partition not in intake.consumer.paused()


@pytest.mark.parametrize("first", [None, 0, 1_000])
async def test_a_partition_that_was_given_away_meanwhile_is_left_alone(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch, first: int | None
) -> None:
    """Given a gap that was asked about, when its lane is another's by the time of the answer, whatever it says."""
    await probe.settled()
    intake, done = probe.service.intakes[0], list[Any]()
    (partition, lane), *_ = intake.lanes.items()

    async def answer(_: Any) -> Any:
        monkeypatch.setitem(intake.lanes, partition, Lane(partition, start=lane.end, cautious=False))
        if first is None:
            raise KafkaError
        return {partition: first}

    monkeypatch.setattr(intake.consumer, "beginning_offsets", answer)
    for name in ("seek", "resume"):
        monkeypatch.setattr(intake.consumer, name, lambda *where: done.append(where))
    monkeypatch.setattr(intake, "reopen", done.append)
    await intake._judge_gap(partition, lane, [])
    assert done == []
