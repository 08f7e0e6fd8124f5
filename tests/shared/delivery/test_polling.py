"""A poll that found nothing is followed by the next one at once, so that what comes at rest waits for nothing; what it
finds goes to the lanes and nowhere else."""

from collections.abc import Coroutine
from typing import Any

import pytest
from aiokafka import TopicPartition

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
