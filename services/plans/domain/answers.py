"""What a member answered in what is no valid event: a bug of an app in one answer is no reason to be silent about
another."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, get_args
from uuid import UUID

from shared.events.envelope import CloudEvent, EventRef, Record
from shared.events.vocabulary import Finding
from shared.red_flags import screen

FINDINGS: Final[frozenset[Finding]] = frozenset(get_args(Finding))


class AnswersData(Record):
    findings: tuple[Finding, ...]


class Answers(CloudEvent):
    """Of a session or a report that nobody can take. It is published nowhere, and is no contract."""

    NAME: ClassVar[str] = "answers"
    type: Literal["org.careloop.answers.v1"] = "org.careloop.answers.v1"
    data: AnswersData


def readable_findings(data: Any) -> frozenset[Finding]:
    """The findings that are some, of the data of what may be no valid event."""
    given = data.get("findings") if isinstance(data, dict) else None
    return FINDINGS.intersection(one for one in (given if isinstance(given, list) else ()) if isinstance(one, str))


def read_answers(members: Mapping[str, Any], ref: EventRef, member_id: UUID, now: datetime) -> Answers | None:
    """The answers of what is no valid event, by its members; None where no red flag can be read in them."""
    screening = screen(findings=readable_findings(members.get("data")))
    if screening.disposition == "none":
        return None
    return Answers(
        id=ref.id, source=ref.source, time=now, subject=member_id, data=AnswersData(findings=screening.findings)
    )
