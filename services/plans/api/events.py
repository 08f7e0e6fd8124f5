"""The ingress of the apps: publish what a member did and felt, and ask what became of it."""

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from services.plans.api.cloudevents import BATCH, SINGLE, read_events
from services.plans.api.known_events import KnownEvents
from services.plans.domain.answers import readable_findings
from shared.arrivals import AGE_MAX, AHEAD_MAX
from shared.auth import Principal, require
from shared.events import CloudEvent, PainReported, SessionCompleted
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import HEADERS, REJECTED_HEADERS, Decoder, Undecodable, body_digest, to_json
from shared.events.envelope import EVENT_SIZE_MAX
from shared.events.vocabulary import Finding
from shared.http import Problem
from shared.inbox import Found, find_outcomes
from shared.publishing import Outgoing, Publisher
from shared.red_flags import screen
from shared.service import Service, this_service
from shared.trace_context import TRACEPARENT, traceparent_of

TOPIC: Final = "careloop.activity"
DECODER: Final = Decoder(TOPIC_OF[TOPIC])
GROUPS: Final = ("plans.activity", "plans.safety")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Half of a sign, which nothing can write."""

router = APIRouter(tags=["events"])

Status = Literal["applied", "waiting", "refused", "dead", "unknown"]
STATUS_OF: Final[dict[str, Status]] = {
    "applied": "applied",
    "ignored": "applied",
    "refused": "refused",
    "parked": "waiting",
    "waiting": "waiting",
    "dead": "dead",
    "discarded": "dead",
}


@dataclass(slots=True)
class Entry:
    """One event of a request on its way: decoded and to be published, or refused with a problem."""

    index: int
    id: str | None
    source: str | None
    event: CloudEvent | None = None
    member_id: UUID | None = None
    """Whose it is, also of what is no event, as far as the caller may publish for them."""
    value: bytes = b""
    problem: Problem | None = None
    findings: Collection[Finding] = ()
    """What was answered, as far as it can be read, also of what is no event."""

    @property
    def ref(self) -> tuple[str, str] | None:
        """Its identity, where it is to be accepted."""
        return (self.event.source, self.event.id) if self.event is not None and self.problem is None else None

    @property
    def is_published(self) -> bool:
        """Rejected or not, valid or not, what holds a red flag goes on to those who look for them."""
        return self.member_id is not None and (self.problem is None or _instruction(self.findings) is not None)

    def answer(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "index": self.index, "id": self.id, "source": self.source,
            "status": "rejected" if self.problem else "accepted",
        }  # fmt: skip
        if self.problem is not None:
            body["problem"] = self.problem.body()
        instruction = _instruction(self.findings)
        if instruction is not None:
            body["instruction"] = instruction
        return body


async def publisher_of(request: Request) -> Publisher:
    """FastAPI dependency: the publisher that main.py put on the app."""
    publisher: Publisher = request.app.state.publisher
    return publisher


async def known_events_of(request: Request) -> KnownEvents:
    """FastAPI dependency: what main.py put on the app to ask the inbox with."""
    known: KnownEvents = request.app.state.known_events
    return known


CALLER: Final = require("member", "app")
_DOCUMENTED: Final[dict[str, Any]] = {
    "security": [{CALLER.scheme_name: []}],
    "requestBody": {
        "required": True,
        "content": {
            SINGLE: {"schema": {"type": "object"}},
            BATCH: {"schema": {"type": "array", "maxItems": 500, "items": {"type": "object"}}},
        },
    },
}


@router.post("/v1/events", status_code=202, openapi_extra=_DOCUMENTED)
async def publish_events(request: Request) -> Response:
    """Publish session.completed and pain.reported, one CloudEvent (structured or binary mode) or a batch.

    Each event is answered on its own: accepted once Kafka has acknowledged it, or rejected with a problem that names
    the field. Findings that hold a red flag are answered with what the member is to do, and told to the care team,
    accepted, rejected or not valid. Sending the same event again is safe. 202 when at least one is accepted; 503 when
    Kafka did not acknowledge.
    """
    # Asked for here: what the framework injects costs it ten microseconds or twenty each, in a route that takes 400.
    principal = await CALLER(request)
    service, publisher, known = await this_service(request), await publisher_of(request), await known_events_of(request)
    with ExitStack() as held:
        is_batch, items = await read_events(request, held)
        now = service.clock.now()
        traceparent = traceparent_of(request.headers)
        entries = []
        for index, item in enumerate(items):
            entries.append(_check(index, item, principal=principal, now=now, traceparent=traceparent))
            if entries[-1].event is None:  # to say what is wrong takes long, and others come first
                await asyncio.sleep(0)
        _refuse_conflicts(entries)
        await _refuse_known(entries, known)
        await _publish(entries, publisher=publisher)
    status = _status_of(entries)
    if is_batch:
        return _json_answer({"results": [entry.answer() for entry in entries]}, status)
    (entry,) = entries
    if entry.problem is None:
        return _json_answer(entry.answer(), 202)
    entry.problem.extra["index"] = 0
    instruction = _instruction(entry.findings)
    if instruction is not None:
        entry.problem.extra["instruction"] = instruction
    return entry.problem.response()


def _json_answer(body: Mapping[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


@router.get("/v1/events/{source_and_id:path}")
async def read_event(
    request: Request,
    source_and_id: str,
    principal: Annotated[Principal, Depends(require("member", "app"))],
    service: Annotated[Service, Depends(this_service)],
) -> dict[str, Any]:
    """What became of an event, by `/v1/events/{source}/{id}` with both URL-encoded: `applied`; `waiting` and for what;
    `refused` and why; `dead`: it could not be applied and an operator looks at it; `unknown`: never accepted, or not
    read yet. `safety` is what became of it where red flags are raised, which waits for nothing. Whoever knows both may
    ask: the answer says nothing of what the event says, nor of whom."""
    source, event_id = _identity(request)
    async with service.requests.acquire() as connection:
        found = {
            group: (await find_outcomes(connection, group=group, events=[(source, event_id)])).get((source, event_id))
            for group in GROUPS
        }
    status, detail = _tell(found["plans.activity"])
    body: dict[str, Any] = {
        "source": source,
        "id": event_id,
        "status": status,
        "safety": _tell(found["plans.safety"])[0],
    }
    if status == "waiting":
        body["waiting_for"] = "an earlier event of the same member" if detail == "behind" else detail
    elif status in ("refused", "dead"):
        body["reason"] = detail
    return body


def _in_trace(item: Any, traceparent: str | None) -> Any:
    """An event that names no trace itself is in the trace of its request, as long as it then is not too large."""
    if traceparent is None or not isinstance(item, dict) or item.get(TRACEPARENT) is not None:
        return item
    traced = {**item, TRACEPARENT: traceparent}
    return traced if len(to_json(traced)) <= EVENT_SIZE_MAX else item


def _check(index: int, item: Any, *, principal: Principal, now: datetime, traceparent: str | None = None) -> Entry:
    named = item if isinstance(item, dict) else {}
    entry = Entry(index, _text(named.get("id")), _text(named.get("source")))
    try:
        entry.value = to_json(_in_trace(item, traceparent))
        entry.event = DECODER.decode(entry.value, ())
    except Undecodable as error:
        status = 413 if error.reason == "oversized" else 422
        errors = [{"field": path, "message": message} for path, message in error.errors]
        entry.problem = Problem(status, error.reason, error.detail, errors=errors)
        entry.findings = readable_findings(named.get("data"))
        entry.member_id = _whose(named, principal)
        if not 0 < len(entry.value) <= EVENT_SIZE_MAX:
            entry.value = orjson.dumps(_in_brief(entry))
        return entry
    event = entry.event
    entry.member_id = event.subject
    if "app" not in principal.roles and event.subject != principal.subject:
        entry.problem = _field(403, "not-yourself", "subject", "A member may publish only for themself.")
        entry.event = entry.member_id = None
        return entry
    if isinstance(event, SessionCompleted | PainReported):
        entry.findings = event.data.findings
    if event.time > now + AHEAD_MAX:
        entry.problem = _field(422, "time-ahead", "time", "The time is more than 5 minutes ahead.")
    elif event.time < now - AGE_MAX:
        entry.problem = _field(422, "too-old", "time", "The time is more than 30 days ago.")
    return entry


def _refuse_conflicts(entries: Sequence[Entry]) -> None:
    """The same identity with another body within one request: the first is taken."""
    seen: dict[tuple[str, str], CloudEvent] = {}
    for entry in entries:
        if entry.event is None or entry.problem is not None:
            continue
        first = seen.setdefault((entry.event.source, entry.event.id), entry.event)
        if first is not entry.event and body_digest(first) != body_digest(entry.event):
            entry.problem = _conflict()


async def _refuse_known(entries: Sequence[Entry], known_events: KnownEvents) -> None:
    """The same identity with another body than was taken before. What has not been read yet, or cannot be asked for
    now, is left to the consumers: they refuse it as well, only later."""
    refs = {entry.ref for entry in entries if entry.ref is not None}
    found = await known_events.find(refs) if refs else {}
    for entry in entries:
        known = found.get(entry.ref) if entry.ref is not None else None
        if known is not None and entry.event is not None and known.digest != body_digest(entry.event):
            entry.problem = _conflict()


def _conflict() -> Problem:
    return _field(409, "identity-conflict", "id", "The same source and id came with another body.")


async def _publish(entries: Sequence[Entry], *, publisher: Publisher) -> None:
    chosen = [(entry, entry.member_id) for entry in entries if entry.member_id is not None and entry.is_published]
    records = [
        Outgoing(member_id=member, value=entry.value, headers=HEADERS if entry.problem is None else REJECTED_HEADERS)
        for entry, member in chosen
    ]
    acknowledged = await publisher.publish(TOPIC, records)
    for (entry, _), done in zip(chosen, acknowledged, strict=True):
        if not done:  # a rejected one as well: nobody has its red flag yet
            entry.problem = Problem(
                503,
                "not-acknowledged",
                "The event was not acknowledged in time. Send it again: the same event takes effect once.",
                headers={"Retry-After": "2"},
            )


def _status_of(entries: Sequence[Entry]) -> int:
    problems = [entry.problem.status for entry in entries if entry.problem is not None]
    if len(problems) < len(entries):
        return 202
    return 503 if 503 in problems else problems[0] if len(set(problems)) == 1 else 422


def _field(status: int, code: str, field: str, message: str) -> Problem:
    return Problem(status, code, message, errors=[{"field": field, "message": message}])


def _whose(named: Mapping[str, Any], principal: Principal) -> UUID | None:
    """Whose what is no event says that it is, where the caller may publish for them; a member's own where it says
    nothing that can be read."""
    is_app = "app" in principal.roles
    try:
        subject = UUID(named["subject"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None if is_app else principal.person_id
    return subject if is_app or subject == principal.subject else None


def _in_brief(entry: Entry) -> dict[str, Any]:
    """What is too large, or nested too deeply, for anybody to read: of whom it is its key tells."""
    named = {name: text for name, text in (("id", entry.id), ("source", entry.source)) if text}
    return {**named, "data": {"findings": sorted(entry.findings)}}


def _instruction(findings: Collection[Finding]) -> dict[str, Any] | None:
    """What the member is to do at once, in each language, where the answers hold a red flag."""
    if not findings:
        return None
    screening = screen(findings=findings)
    if screening.disposition == "none":
        return None
    return {
        "disposition": screening.disposition,
        "blocks_plan": screening.blocks_plan,
        "rule_id": screening.rule_id,
        "rule_version": screening.rule_version,
        "reason": screening.reason,
        "text": dict(screening.instruction),
    }


def _identity(request: Request) -> tuple[str, str]:
    """Source and id from the path as it was sent: both may hold encoded slashes."""
    raw = request.scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace").partition("?")[0]
    source, _, event_id = raw.partition("/v1/events/")[2].rpartition("/")
    if not source or not event_id:
        raise Problem(404, "not-found", "Ask by /v1/events/{source}/{id}, both URL-encoded.")
    return unquote(source), unquote(event_id)


def _tell(found: Found | None) -> tuple[Status, str | None]:
    return ("unknown", None) if found is None else (STATUS_OF[found.outcome], found.detail)


def _text(value: Any) -> str | None:
    """What can be told and written again."""
    return value if isinstance(value, str) and len(value) <= 200 and not _SURROGATE.search(value) else None
