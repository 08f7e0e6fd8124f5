"""What stands still or goes wrong is told: by readiness, and by figures that alert rules can see rise."""

import asyncio
from uuid import uuid4

import pytest

from shared.telemetry import BUGS, SAFETY_FAILURES, TASK_RESTARTS, WRONG_PARTITION
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, RunService
from tests.shared.delivery.probe import ACTIVITY, build, pain

RISING = (
    'careloop_safety_failures_total{consumer_group="probe.safety"} 0.0',
    'careloop_bugs_total{where="probe.activity"} 0.0',
    'careloop_bugs_total{where="timers"} 0.0',
    'careloop_bugs_total{where="relay"} 0.0',
    'careloop_task_restarts_total{task="timers"} 0.0',
    'careloop_wrong_partition_records_total{topic="careloop.activity"} 0.0',
)


async def test_a_figure_is_there_before_it_rises(run_service: RunService, probe_url: str) -> None:
    """Prometheus sees no rise in a series that begins with its first failure: nobody would be woken for that one."""
    for counter in (SAFETY_FAILURES, BUGS, TASK_RESTARTS, WRONG_PARTITION):
        counter.clear()
    async with run_service(build, name="probe", database_url=probe_url) as running:
        told = (await running.client.get("/metrics")).text
        assert [line for line in RISING if line not in told] == []


async def test_a_chunk_that_neither_ends_nor_fails_is_told(
    probe: RunningService, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose handler waits for something that never comes."""
    monkeypatch.setattr("shared.intake.ENDLESS_S", 0.5)
    await probe.settled()

    async def wait_for_ever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    for intake in probe.service.intakes:
        if intake.subscription.group == "probe.activity":
            monkeypatch.setattr(intake._taker, "take", wait_for_ever)
    await publish(ACTIVITY, pain(uuid4(), 1))

    async def told() -> bool:
        answer = await probe.client.get("/health/ready")
        return answer.status_code == 503 and "probe.activity: 1 partitions have a chunk in hand for long" in answer.text

    await eventually(told, within=10)
