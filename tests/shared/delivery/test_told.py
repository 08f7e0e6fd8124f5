"""What stands still or goes wrong is told: by readiness, and by figures that alert rules can see rise."""

from shared.telemetry import BUGS, SAFETY_FAILURES, TASK_RESTARTS, WRONG_PARTITION
from tests.fixtures.services import RunService
from tests.shared.delivery.probe import build

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
