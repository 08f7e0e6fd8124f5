"""What the services themselves say of a run that nobody else would notice: a process that reads nothing any more is
hurt or replaced soon enough, and another one takes what it had."""

import json
import re
from pathlib import Path
from typing import Any

from tests.chaos.findings import Findings

WRONG = re.compile(
    r"Unexpected error in \w+ routine|a poll failed|a partition stopped|"
    r"a timer failed|a thread failed|ended by a failure"
)
"""What the Kafka client does beside the poll has ended for good, or there is a bug beside the handlers. No fault of the
world's leads to any of these."""


def judge_service_logs(folder: Path, findings: Findings) -> None:
    """One finding for each kind of line in each process."""
    for path in sorted(folder.glob("*.log")):
        wrong = [_read(line) for line in path.read_text(errors="replace").splitlines() if WRONG.search(line)]
        for one in dict.fromkeys(f"{said.get('event')}: {said.get('error')}" for said in wrong):
            findings.add("logs", f"{path.name}: {one}")


def _read(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {"event": line[:200]}
