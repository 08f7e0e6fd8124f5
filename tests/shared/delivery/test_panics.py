"""Given a handler that raises what is no Exception, as an extension written in Rust does where it panics, that costs
one event."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import uuid4

import pytest

from shared.database import Connection
from shared.events import PainReported
from shared.outcomes import Outcomes
from shared.service import Service, Task
from shared.settings import ServiceSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.shared.delivery.conftest import effects_are, neighbour_of
from tests.shared.delivery.probe import ACTIVITY, build, follow_activity, pain


class Panic(BaseException):
    """As pyo3_runtime.PanicException is one."""


@pytest.mark.parametrize("raised", [Panic, asyncio.CancelledError])
async def test_a_panic_costs_one_event(
    run_service: RunService, probe_url: str, publish: Publish, raised: type[BaseException]
) -> None:
    async def activity(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
        if any(event.data.score == 5 for event in events):
            raise raised
        return await follow_activity(connection, events, now=now)

    async with run_service(partial(build, activity=activity), name="probe", database_url=probe_url) as probe:
        member = uuid4()
        neighbour = neighbour_of(member)
        await publish(ACTIVITY, pain(member, 5))
        await publish(ACTIVITY, pain(neighbour, 1))
        try:
            await eventually(partial(effects_are, probe, neighbour, [1]), within=40)
        except AssertionError:
            answer = await probe.client.get("/health/ready")
            assert answer.status_code == 503, f"the partition stands still, and nobody is told: {answer.text}"
            raise


async def test_a_task_that_panics_begins_again(run_service: RunService, probe_url: str) -> None:
    """The relay, timers and all that `_supervise` runs."""
    begun: list[None] = []

    async def panics(_: object) -> None:
        begun.append(None)
        raise Panic

    def with_task(settings: ServiceSettings) -> Service:
        service = build(settings)
        service._own_tasks = [Task("panics", panics)]
        return service

    async with run_service(with_task, name="probe", database_url=probe_url):
        await eventually(lambda: len(begun) > 1, within=10, what="it begins again")
