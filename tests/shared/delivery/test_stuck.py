"""A chunk that fails again and again is told of: since its first failure, whatever goes well beside it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, cast
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from shared.clock import monotonic
from shared.database import LONG_S, Connection
from shared.intake import STUCK_S
from shared.lanes import Lane, RawChunk
from shared.outcomes import Outcomes
from tests.fixtures.services import RunningService
from tests.shared.delivery.books import GROUP, PARTITIONS, Books
from tests.shared.delivery.probe import ACTIVITY, pain


async def test_how_long_a_chunk_has_failed_counts_from_its_first_failure(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or readiness would never tell of it: the pauses between two attempts are shorter than what it allows."""
    taker, record, since = books.taker(), books.write(pain(uuid4(), 1)), list[float | None]()
    lane, attempt = Lane(TopicPartition(ACTIVITY, 0), start=0, cautious=False), taker._try

    async def fail_thrice(*what: Any, **more: Any) -> None:
        since.append(lane.retrying_since)
        if len(since) <= 3:
            raise ConnectionResetError
        await attempt(*what, **more)

    monkeypatch.setattr(taker, "_try", fail_thrice)
    await taker.take(lane, RawChunk(0, 0, 1, [cast(Any, record)]), counted=True, partitions=PARTITIONS)
    assert since[0] is None
    assert since[1] is not None
    assert since[1:] == [since[1]] * 3
    assert lane.retrying_since is None


async def test_a_chunk_that_fails_since_just_now_hides_none_that_has_failed_for_long(probe: RunningService) -> None:
    await probe.settled()
    lanes = probe.service.intakes[0].lanes.values()
    for lane, since in zip(lanes, (monotonic() - STUCK_S - 1, monotonic()), strict=True):
        lane.retrying_since = since
    answer = await probe.client.get("/health/ready")
    assert answer.status_code == 503, answer.text
    assert "a chunk has failed for" in answer.text


@pytest.mark.parametrize(("failing_for_s", "told"), [(0.0, "0.0"), (STUCK_S + 1, "1.0")])
async def test_a_process_that_is_not_ready_tells_those_who_wake_somebody(
    probe: RunningService, failing_for_s: float, told: str
) -> None:
    """Not only a balancer, which asks for readiness and wakes nobody."""
    await probe.settled()
    lane, *_ = probe.service.intakes[0].lanes.values()
    lane.retrying_since = monotonic() - failing_for_s
    assert f'careloop_not_ready{{service="probe"}} {told}\n' in (await probe.client.get("/metrics")).text


async def test_a_chunk_whose_transaction_the_server_ended_after_long_is_taken_in_smaller_ones(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver only says that the connection is gone, which alone would be tried again for ever as it is."""
    sizes, at = list[int](), [1.0]
    run = books.subscription(GROUP).run

    async def take_long_for_two(connection: Connection, events: Sequence[Any], /, *, now: Any) -> Outcomes:
        sizes.append(len(events))
        if sizes[-1] > 1:
            at[0] += LONG_S + 1
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return await run(connection, events, now=now)

    reader = replace(books.readers[GROUP], subscription=replace(books.subscription(GROUP), run=take_long_for_two))
    books.readers = {**books.readers, GROUP: reader}
    monkeypatch.setattr("shared.database.monotonic", lambda: at[0])
    records = [books.write(pain(uuid4(), 1)) for _ in range(2)]
    await asyncio.wait_for(books.take_as_the_runtime(*records), 20)
    assert sizes == [2, 2, 2, 1, 1]


@pytest.mark.parametrize("how", ["ended", "failed"])
async def test_a_process_whose_polling_has_ended_is_not_live(probe: RunningService, how: str) -> None:
    """Nothing else would begin it again: whoever watches over processes has to."""
    await probe.settled()
    assert (await probe.client.get("/health/live")).status_code == 200
    intake = probe.service.intakes[0]
    polling: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if how == "ended":
        polling.set_result(None)
    else:
        polling.set_exception(ValueError())
        polling.exception()
    intake._subscriber.tasks.append(polling)
    try:
        answer = await probe.client.get("/health/live")
        assert (answer.status_code, answer.json()["ended"]) == (503, [intake.subscription.group])
    finally:
        intake._subscriber.tasks.remove(polling)


@pytest.mark.parametrize("part", ["_coordinator._coordination_task", "_fetcher._fetch_task", "_client._sync_task"])
async def test_a_process_whose_client_reads_nothing_any_more_is_not_live(probe: RunningService, part: str) -> None:
    """Polling goes on and brings nothing: what the client does beside it ends for good after an error that it does not
    expect."""
    await probe.settled()
    assert (await probe.client.get("/health/live")).status_code == 200
    intake = probe.service.intakes[0]
    task = attrgetter(part)(intake.consumer)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    answer = await probe.client.get("/health/live")
    assert (answer.status_code, answer.json()["ended"]) == (503, [intake.subscription.group])
