"""The search for guilty events against taking one after the other; partitions against Kafka's own arithmetic."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import example, given
from hypothesis import strategies as st

from shared.clock import wall_now
from shared.isolating import run_isolated
from shared.outcomes import Outcomes
from shared.partitioning import key_of, partition_of
from shared.subscriptions import Subscription
from tests.shared.delivery.probe import ACTIVITY, pain

PEOPLE = [UUID(int=number + 1, version=4) for number in range(4)]
BUG, WAITS, REFUSED = 9, 8, 7
NOW = wall_now()


@dataclass
class Tables:
    """In the place of a connection: effects, and savepoints that take them back."""

    effects: list[tuple[UUID, str]] = field(default_factory=list)
    attempts: int = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        before = list(self.effects)
        self.attempts += 1
        try:
            yield
        except BaseException:
            self.effects = before
            raise


async def follow(tables: Any, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
    """Raises at a bug after it has done what came before, as a real one would; also at one that comes behind an event
    that waits."""
    outcomes, stopped = Outcomes(), set()
    for event in events:
        if event.data.score == BUG:
            raise ValueError
        if event.subject in stopped:
            continue
        if event.data.score == WAITS:
            outcomes.wait(event, needs="member")
            stopped.add(event.subject)
        elif event.data.score == REFUSED:
            outcomes.refuse(event, reason="seven")
        else:
            tables.effects.append((event.subject, event.id))
    return outcomes


chunks = st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from([1, 2, 3, 4, REFUSED, WAITS, BUG])), max_size=24)


@pytest.mark.parametrize("stateless", [False, True])
@given(chunk=chunks)
@example(chunk=[(PEOPLE[0], score) for score in (1, WAITS, 1, BUG)])  # one could run in the half behind what waits
def test_a_guilty_event_is_found_and_all_before_it_takes_effect(chunk: list[tuple[UUID, int]], stateless: bool) -> None:
    events = [pain(member, 1 if stateless and score == WAITS else score, event_id=str(number))
              for number, (member, score) in enumerate(chunk)]  # fmt: skip
    effects, guilty, waiting, refused = set(), set(), set(), set()
    stopped: set[UUID] = set()
    for event in events:
        if event.subject in stopped:
            continue
        if event.data.score == BUG:
            guilty.add(event.id)
            if not stateless:
                stopped.add(event.subject)
        elif event.data.score == WAITS:
            waiting.add(event.id)
            stopped.add(event.subject)
        elif event.data.score == REFUSED:
            refused.add(event.id)
        else:
            effects.add(event.id)

    tables: Any = Tables()
    subscription = Subscription(topic=ACTIVITY, group="probe.activity", run=follow, stateless=stateless)
    found = asyncio.run(run_isolated(tables, subscription, events, service="probe", now=NOW))

    done = [event_id for _, event_id in tables.effects]
    assert len(done) == len(set(done))
    assert set(done) == effects
    for member in PEOPLE:
        mine = [int(event_id) for subject, event_id in tables.effects if subject == member]
        assert mine == sorted(mine), "in the order of the log"
    assert {event_id for _, event_id in found.guilty} == guilty
    assert {event_id for _, event_id in found.outcomes.waiting} == waiting
    assert {event_id for _, event_id in found.outcomes.refused} == refused


@given(length=st.integers(1, 200), place=st.integers(0, 199), members=st.integers(1, 50))
def test_the_search_is_by_halves(length: int, place: int, members: int) -> None:
    """One guilty event among so many: the attempts grow with the logarithm of the chunk."""
    guilty = place % length
    events = [
        pain(UUID(int=n % members + 1, version=4), 9 if n == guilty else 1, event_id=str(n)) for n in range(length)
    ]
    tables: Any = Tables()
    subscription = Subscription(topic=ACTIVITY, group="probe.activity", run=follow)
    found = asyncio.run(run_isolated(tables, subscription, events, service="probe", now=NOW))
    assert [event_id for _, event_id in found.guilty] == [str(guilty)]
    assert tables.attempts <= 1 + 2 * (length.bit_length() + 1)


@given(members=st.lists(st.uuids(), min_size=1, max_size=20), partitions=st.integers(1, 64))
def test_a_member_has_kafkas_own_partition_also_by_the_hash_that_a_row_keeps(
    members: list[UUID], partitions: int
) -> None:
    theirs = DefaultPartitioner()
    all_of_them = list(range(partitions))
    for member in [*members, *members]:
        place = theirs(str(member).encode(), all_of_them, all_of_them)
        assert partition_of(member, partitions) == place
        assert key_of(member).hash % partitions == place
