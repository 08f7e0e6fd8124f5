"""What a service says of itself is held against a run."""

from pathlib import Path

from tests.chaos.findings import Findings
from tests.chaos.service_logs import judge_service_logs

DEAF = (
    '{"event": "Unexpected error in fetcher routine", "logger": "aiokafka.consumer.fetcher", "level": "error", '
    '"error": "RuntimeError at handle.pyx:159"}'
)
ASIDE = (
    '{"event": "Unexpected error while fetching data: UnknownError", "logger": "aiokafka.consumer.fetcher"}\n'
    '{"event": "a task failed and starts again", "task": "relay", "error": "ConnectionRefusedError"}\n'
)


def test_a_client_that_has_ended_for_good_is_a_finding_and_the_worlds_faults_are_none(tmp_path: Path) -> None:
    """Once for each process, whatever it says beside that and wherever it was killed."""
    (tmp_path / "notifications-1.log").write_text(f"{ASIDE}{DEAF}\n{DEAF}\n" + DEAF[:20])
    (tmp_path / "plans-1.log").write_text(ASIDE)
    findings = Findings()
    judge_service_logs(tmp_path, findings)
    assert [str(one) for one in findings.found] == [
        "logs: notifications-1.log: Unexpected error in fetcher routine: RuntimeError at handle.pyx:159"
    ]
