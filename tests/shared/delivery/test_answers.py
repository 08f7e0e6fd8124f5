"""What a handler's last write answers is given to whoever waits for the commit, or nothing that could pass for all."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from shared.database import Connection
from shared.events import PainReported
from shared.lanes import Lane, RawChunk
from shared.outcomes import Outcomes, Write
from shared.replaying import Reader
from tests.shared.delivery.books import GROUP, JOINING, PARTITIONS, Books
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, follow_activity, pain, paused

NOTED = "noted as (insert into switches select gen_random_uuid()::text from generate_series(1, $1::int) returning 1)"


async def follow_and_answer(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
    outcomes = await follow_activity(connection, events, now=now)
    outcomes.writes.append(Write("select count(*) from noted", [len(events)], NOTED, answers=True))
    return outcomes


@pytest.fixture
def answering(books: Books) -> Books:
    reader = books.readers[GROUP]
    subscription = replace(reader.subscription, run=follow_and_answer)
    books.readers = {**books.readers, GROUP: Reader(subscription, reader.decoder)}
    return books


async def test_the_rows_of_a_chunk_are_told_once_it_is_committed(answering: Books) -> None:
    told: list[tuple[int, Any]] = []
    taker = answering.taker()
    taker.committed = lambda published, answer: told.append((published, answer))
    records = [answering.write(pain(uuid4(), score)) for score in (1, 2, 7)]
    lane = Lane(TopicPartition(ACTIVITY, 0), start=0, cautious=False)
    await taker.take(lane, RawChunk(0, 0, len(records), records), counted=False, partitions=PARTITIONS)
    assert [(published, [tuple(row) for row in answer]) for published, answer in told] == [(2, [(3,)])]


async def test_of_a_chunk_in_which_nothing_answers_it_is_known_that_there_is_nothing_to_tell(books: Books) -> None:
    taken = await books.take(books.write(pain(uuid4(), 1)))
    assert taken.answer is not None
    assert len(taken.answer) == 0


async def test_where_more_was_written_than_answered_nothing_is_told(answering: Books) -> None:
    """Given a chunk that looks for a guilty event, one that brings what a member waited for, or one with another body
    under a known identity, then its answer is not known, rather than a part of it."""
    guilty, waiting, twice = uuid4(), uuid4(), pain(uuid4(), 1)
    isolated = [answering.write(pain(guilty, 9)), answering.write(pain(uuid4(), 1))]
    assert (await answering.take(*isolated, isolated=True)).answer is None
    assert (await answering.take(answering.write(pain(waiting, 8)))).answer
    assert (await answering.take(answering.write(pain(waiting, 1)))).answer is None, "the queue was tried"
    joined = await answering.take(answering.write(paused(waiting), topic=MEMBERS), group=JOINING)
    assert joined.answer is None
    other = twice.model_copy(update={"data": twice.data.model_copy(update={"score": 2})})
    assert (await answering.take(answering.write(twice, topic=ACTIVITY))).answer
    assert (await answering.take(answering.write(other))).answer is None
