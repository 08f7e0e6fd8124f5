"""The published stream: what simulated phones send, in the order they send it. Pure: equal seeds give equal bytes.

Identifiers derive from the seed (UUID version 5) and times are clinic times, so a stream that was interrupted can be
published again from anywhere: what was already taken is a duplicate with the same body. Phones are flaky: some send an
event twice, some send it hours late and so out of order.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Literal
from uuid import uuid5

import orjson

from deploy.simulator.intakes import intake_body
from deploy.simulator.lives import Happening, Joined, Life, MessageWritten, PainTold, SessionDone
from deploy.simulator.messages import message_text
from deploy.simulator.parameters import Parameters
from deploy.simulator.people import Cohort, Member, chance
from shared.events import NAMESPACE, CloudEvent, PainReported, SessionCompleted
from shared.events.activity import PainReportedData, SessionCompletedData
from shared.events.envelope import schema_uri

APPS = ("ios", "android", "web")
Kind = Literal["intake", "event", "message"]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One thing that one phone sends once. `at` is when (clinic time); `copy` counts repeats of the same bytes."""

    at: datetime
    member: Member
    kind: Kind
    id: str
    """Of the event, or the idempotency key of the request."""
    body: bytes
    """A CloudEvent in structured JSON, the text of a message, or the answers of an intake as JSON."""
    copy: int = 0
    needs_a_look: bool = False
    """It tells of a finding or a spike: somebody should see it before much clinic time has passed."""

    @property
    def order(self) -> tuple[datetime, int, str, int]:
        return (self.at, self.member.index, self.id, self.copy)

    def __lt__(self, other: "Publication") -> bool:
        return self.order < other.order


def source_of(member: Member) -> str:
    """The app a member uses; part of the identity of what it publishes."""
    return f"urn:careloop:app:{APPS[member.index % len(APPS)]}"


def _event(cohort: Cohort, member: Member, happening: SessionDone | PainTold, number: int) -> CloudEvent:
    key = uuid5(NAMESPACE, f"simulated-activity/{cohort.name}/{member.index}/{number}")
    if isinstance(happening, PainTold):
        return PainReported(
            id=str(key),
            source=source_of(member),
            time=happening.at,
            subject=member.member_id,
            dataschema=schema_uri(PainReported),
            data=PainReportedData(score=happening.score, context=happening.context),
        )
    data = SessionCompletedData(
        session_id=uuid5(key, "session"),
        started_at=happening.started_at,
        duration_min=happening.duration_min,
        exercises=happening.exercises,
        pain_before=happening.pain_before,
        pain_during=happening.pain_during,
        pain_last_morning=happening.pain_last_morning,
        findings=happening.findings,
    )
    return SessionCompleted(
        id=str(key),
        source=source_of(member),
        time=happening.at,
        subject=member.member_id,
        dataschema=schema_uri(SessionCompleted),
        data=data,
    )


def _publication(cohort: Cohort, member: Member, happening: Happening, number: int) -> Publication:
    if isinstance(happening, SessionDone | PainTold):
        event = _event(cohort, member, happening, number)
        body = event.model_dump_json(exclude_none=True).encode()
        found = happening.spiked or (isinstance(happening, SessionDone) and bool(happening.findings))
        return Publication(
            at=happening.sent_at, member=member, kind="event", id=event.id, body=body, needs_a_look=found
        )
    key = str(uuid5(NAMESPACE, f"simulated-request/{cohort.name}/{member.index}/{number}"))
    if isinstance(happening, MessageWritten):
        text = message_text(topic=happening.topic, variant=happening.variant, language=member.language)
        return Publication(at=happening.sent_at, member=member, kind="message", id=key, body=text.encode())
    assert isinstance(happening, Joined)
    answers = orjson.dumps(intake_body(member, joins_on=happening.at.date()))
    return Publication(
        at=happening.sent_at, member=member, kind="intake", id=key, body=answers, needs_a_look=bool(member.findings)
    )


def member_stream(*, member: Member, cohort: Cohort, p: Parameters) -> Iterator[Publication]:
    """Everything that one member's phone sends, in the order it sends it; without end if the member never leaves."""
    life = Life(member=member, cohort=cohort, p=p)
    flaky = chance(cohort.name, member.index, "flaky")
    pending: list[Publication] = []
    for number, happening in enumerate(life.happenings()):
        # Happenings of a day come unordered, and a day may run a few hours into the next: hold back two days.
        while pending and pending[0].at < happening.at - timedelta(days=2):
            yield heapq.heappop(pending)
        sent = _publication(cohort, member, happening, number)
        heapq.heappush(pending, sent)
        again, twice = timedelta(seconds=flaky.uniform(1, 7200)), flaky.random() < p.duplicate_share
        if twice and sent.kind == "event":
            heapq.heappush(pending, replace(sent, at=sent.at + again, copy=1))
    while pending:
        yield heapq.heappop(pending)


def published_stream(*, cohort: Cohort, members: Sequence[Member], p: Parameters) -> Iterator[Publication]:
    """Everything a population sends, in the order it is sent, without end. Cut it with `until`."""
    return heapq.merge(*(member_stream(member=member, cohort=cohort, p=p) for member in members))


def until(stream: Iterator[Publication], end: datetime) -> Iterator[Publication]:
    """What is sent before a clinic time."""
    return takewhile(lambda publication: publication.at < end, stream)


def stream_bytes(stream: Iterator[Publication]) -> Iterator[bytes]:
    """One line a publication: what determinism is measured on, and what `simulate --print` shows."""
    for sent in stream:
        head = [sent.at, str(sent.member.member_id), sent.kind, sent.id, sent.copy]
        yield orjson.dumps(head) + b" " + sent.body + b"\n"
