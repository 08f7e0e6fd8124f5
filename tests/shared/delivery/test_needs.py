"""What an event waits for must not come behind it in its own queue: nothing would ever bring it.

A rule for whoever writes a handler, held against every group of every service: what its topic brings is tried alone,
and an event that waits must then wait as before.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from shared.database import Connection, open_database
from shared.events import PainReported, SessionCompleted
from shared.events.catalogue import SERVICES
from shared.outcomes import Outcomes
from shared.subscriptions import Subscription
from tests.fixtures.databases import DatabaseFactory
from tests.statements.chunks import Desk, subscriptions_of
from tests.statements.story import of_topic, tell

GROUPS = [(service, subscription) for service in SERVICES for subscription in subscriptions_of(service)]


async def released_by_their_own(desk: Desk, group: str) -> list[tuple[str, str]]:
    """(what waits, what behind it would release it), in a group of which nothing else is known."""
    events = of_topic(desk.readers[group].subscription.topic)
    found = []
    for waiting in events:
        (number,) = desk.new_members(1)
        if not (await desk.take(group, [tell(waiting, number)]))[0].counts.waiting:
            continue
        for bringing in events:
            (number,) = desk.new_members(1)
            await desk.take(group, [tell(bringing, number)])
            counts = (await desk.take(group, [tell(waiting, number)]))[0].counts
            if bringing is not waiting and not counts.waiting + counts.parked:
                found.append((waiting.NAME, bringing.NAME))
    return found


OpenDesk = Callable[[str, Subscription], Awaitable[Desk]]


@pytest.fixture
async def open_desk(database: DatabaseFactory) -> Any:
    pools = []

    async def make(service: str, subscription: Subscription) -> Desk:
        pool = await open_database(await database(service), connections=2, application="test")
        pools.append(pool)
        desk = Desk(service, pool, [subscription])
        await desk.open()
        return desk

    yield make
    for pool in pools:
        await pool.close()


@pytest.mark.parametrize(("service", "subscription"), GROUPS, ids=[subscription.group for _, subscription in GROUPS])
async def test_what_an_event_waits_for_does_not_come_behind_it(
    open_desk: OpenDesk, service: str, subscription: Subscription
) -> None:
    desk = await open_desk(service, subscription)
    assert await released_by_their_own(desk, subscription.group) == []


async def test_a_handler_that_waits_for_its_own_topic_is_found(open_desk: OpenDesk) -> None:
    """Planted: a session waits until pain was reported, in the group that reads both."""
    reported = set[Any]()

    async def follow(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        outcomes = Outcomes()
        for event in events:
            if isinstance(event, PainReported):
                reported.add(event.subject)
            elif event.subject not in reported:
                outcomes.wait(event, needs="pain")
        return outcomes

    (real,) = [one for _, one in GROUPS if one.group == "plans.activity"]
    desk = await open_desk("plans", replace(real, run=follow))
    assert await released_by_their_own(desk, real.group) == [(SessionCompleted.NAME, PainReported.NAME)]
