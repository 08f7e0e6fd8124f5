"""Who is condemned for what: an event for what it does to the process that takes it, nobody for what others forget."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from shared.clock import wall_now
from shared.database import Connection
from shared.events import PainReported
from shared.lanes import Lane, RawChunk
from shared.outcomes import Outcomes
from shared.positions import record_attempt
from shared.replaying import Reader
from shared.taking import ATTEMPTS_MAX
from tests.shared.delivery.books import GROUP, SAFETY, Books, Record
from tests.shared.delivery.conftest import RED_FLAG
from tests.shared.delivery.probe import ACTIVITY, pain


async def die(connection: Connection, events: Sequence[PainReported], /, *, now: object) -> Outcomes:
    raise AssertionError("it would have ended the process once more")


def chunk_of(record: Record) -> tuple[Lane, RawChunk]:
    lane = Lane(TopicPartition(ACTIVITY, record.partition), start=record.offset, cautious=True)
    return lane, RawChunk(record.offset, record.offset + 1, [record])


@pytest.mark.parametrize("fault", ["time-ahead", "identity-conflict"])
async def test_what_ends_the_process_of_a_safety_group_is_condemned_whatever_else_is_at_fault(
    books: Books, fault: str
) -> None:
    """Given an event that ended its process three times, which a safety group would look at in spite of its fault, when
    it is taken once more, then it is a dead letter and what comes behind it is looked at."""
    first = pain(uuid4(), 1)
    guilty = pain(first.subject, 2, event_id=first.id, findings=RED_FLAG)
    if fault == "time-ahead":
        guilty = pain(first.subject, 2, findings=RED_FLAG).model_copy(update={"time": wall_now() + timedelta(days=1)})
    await books.take_as_the_runtime(books.write(first), group=SAFETY)
    readers = dict(books.readers)
    books.readers = readers | {SAFETY: Reader(replace(books.subscription(SAFETY), run=die), readers[SAFETY].decoder)}
    record = books.write(guilty)
    async with books.pool.acquire() as connection:
        for _ in range(ATTEMPTS_MAX):
            await record_attempt(connection, SAFETY, ACTIVITY, record.partition, record.offset)
    await books.taker(SAFETY).take(*chunk_of(record), counted=True, partitions=2)
    books.readers, books.bases[SAFETY, record.partition] = readers, record.offset + 1
    await books.take_as_the_runtime(books.write(pain(first.subject, 3, findings=RED_FLAG)), group=SAFETY)
    assert [(row["state"], row["reason"], row["blocks"]) for row in await books.held(SAFETY)] == [
        ("dead", "kills-the-process", False)
    ]
    assert len(await books.published()) == 1


async def test_an_event_does_not_pay_for_a_client_that_has_forgotten_its_topic(books: Books) -> None:
    """The client forgets how many partitions a topic has while the broker cannot tell."""
    event = pain(uuid4(), 3)
    await books.taker(GROUP).take(*chunk_of(books.write(event)), counted=False, partitions=0)
    assert await books.effects(event.subject) == [3]
    assert await books.held() == []
