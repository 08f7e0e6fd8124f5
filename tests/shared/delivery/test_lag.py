"""What no process has taken is told, and for how long it has waited, whoever was given its partition."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import housekeeping, lag
from shared.lag import Place, Unread, Waits, load_all_positions
from shared.migrating import migrate
from shared.telemetry import LAG_RECORDS, LAG_SECONDS
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.books import GROUP
from tests.shared.delivery.conftest import effects_of
from tests.shared.delivery.probe import ACTIVITY, add_tables, build, pain

HERE: Place = (GROUP, ACTIVITY, 0)
SETS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 9)), max_size=40)
"""How many records come, how many of them are taken, and how long it takes, step by step."""


@given(SETS)
def test_what_is_unread_has_waited_since_somebody_first_saw_it(steps: list[tuple[int, int, int]]) -> None:
    """Beside a list of when each record was seen first."""
    waits, seen, at, position = Waits(), list[float](), 0.0, 0
    for came, taken, took in steps:
        at += took
        position = min(position + taken, len(seen))
        seen += [at] * came
        unread = {HERE: Unread(position, len(seen))} if position < len(seen) else {}
        waited = waits.look(unread, at=at)
        assert waited == ({HERE: at - seen[position]} if unread else {})


def test_however_much_comes_behind_it_the_oldest_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a partition that stands still for hours while others publish, an alarm goes by how long it has stood."""
    monkeypatch.setattr(lag, "ENDS_MAX", 3)
    waits = Waits()
    assert [waits.look({HERE: Unread(0, came)}, at=came)[HERE] for came in range(1, 9)] == [*range(8)]


def test_a_log_that_was_made_anew_begins_to_wait_anew() -> None:
    waits = Waits()
    waits.look({HERE: Unread(0, 9)}, at=1)
    assert waits.look({HERE: Unread(0, 9)}, at=5) == {HERE: 4}
    assert waits.look({HERE: Unread(0, 3)}, at=6) == {HERE: 0}


def test_where_nobody_tells_the_end_of_a_log_it_counts_as_waiting_from_then_on() -> None:
    waits = Waits()
    assert waits.look({HERE: Unread(7, None)}, at=1) == {HERE: 0}
    assert waits.look({HERE: Unread(7, None)}, at=90) == {HERE: 89}
    assert waits.look({HERE: Unread(7, 9)}, at=95) == {HERE: 94}, "it came while nobody told"
    assert waits.look({}, at=96) == {}
    waits.look({HERE: Unread(9, 11)}, at=100)
    assert waits.look({HERE: Unread(9, None)}, at=120) == {HERE: 20}
    assert waits.look({HERE: Unread(11, None)}, at=121) == {HERE: 0}


async def test_who_is_behind_says_so_and_since_when(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an event whose member somebody holds, then it is unread, for longer and longer, until it is taken."""
    monkeypatch.setattr(housekeeping, "LAG_EVERY_S", 0.1)
    member = uuid4()
    database = probe.service.database
    async with database.acquire() as holder, holder.transaction():
        await holder.execute("lock table delivery.inbox")
        await publish(ACTIVITY, pain(member, 3))
        await eventually(lambda: told(LAG_RECORDS) == 1 and told(LAG_SECONDS) > 1, within=30)
    await eventually(lambda: told(LAG_RECORDS) == told(LAG_SECONDS) == 0, within=30)
    assert await effects_of(probe, member) == [3]


async def test_nobody_loses_what_another_installation_was_given(
    probe: RunningService, run_service: RunService, publish: Publish, database: DatabaseFactory
) -> None:
    """Given an installation with another database in the same groups, as one that was copied with its settings, when it
    is given partitions and takes their events, then that is lag here, and once it has gone they are taken here, too."""
    url = await database(None)
    await migrate(url, service="probe")
    await add_tables(url)
    async with run_service(build, name="probe", database_url=url) as other:
        await publish(ACTIVITY, *(pain(uuid4(), 3) for _ in range(20)))

        async def shared_out() -> bool:
            here, there = [await count_effects(one) for one in (probe, other)]
            return here + there == 20 and here > 0 and there > 0

        await eventually(shared_out, within=30)
        missing = 20 - await count_effects(probe)
        assert sum(one.records for one in (await unread_by(probe)).values()) == missing
    await eventually(lambda: has_all(probe), within=40)
    assert await unread_by(probe) == {}


async def has_all(running: RunningService) -> bool:
    return await count_effects(running) == 20


async def count_effects(running: RunningService) -> int:
    counted: int = await running.service.database.fetchval("select count(distinct member_id) from effects")
    return counted


async def unread_by(running: RunningService) -> dict[Place, Unread]:
    """Of the group that saves effects."""
    async with running.service.database.acquire() as connection:
        found = await running.service.find_unread(await load_all_positions(connection))
    return {place: one for place, one in found.items() if place[0] == GROUP}


def told(figure: Any) -> float:
    return float(figure.labels(GROUP)._value.get())
