"""Shapes of requests and answers."""

from datetime import datetime, time
from itertools import pairwise
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from services.messaging.domain.alert import Alert
from services.messaging.domain.conversation import Message
from services.messaging.domain.slots import Span, WeeklyHours, is_time_zone
from services.messaging.domain.timeline import TimelineEntry
from services.messaging.domain.visit import Visit, VisitRules
from shared.events.conversations import AlertOutcome
from shared.events.envelope import Instant
from shared.events.visits import VisitReason, VisitRecommendation
from shared.events.vocabulary import Exercise, Practitioner, PractitionerRole, TimeZone
from shared.http import field_errors

MESSAGE_LENGTH_MAX = 4000
NOTE_LENGTH_MAX = 8000
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MESSAGE_LENGTH_MAX, pattern=r"^[^\x00]+$")
]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=NOTE_LENGTH_MAX, pattern=r"^[^\x00]*$")]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewMessage(Body):
    text: Text
    alert_id: UUID | None = None
    """The alert that a clinician answers; what follows belongs to its chain."""


class UnfitMessage(NewMessage):
    """One that cannot be taken. What it says is looked through all the same."""

    text: str
    errors: list[dict[str, str]]


def _keep_words(sent: object, validate: ModelWrapValidatorHandler[NewMessage]) -> NewMessage:
    try:
        return validate(sent)
    except ValidationError as error:
        text = sent.get("text") if isinstance(sent, dict) else None
        if not isinstance(text, str):
            raise
        errors = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        readable = text.encode(errors="replace").decode()  # JSON may hold halves of a sign, which are no text
        return UnfitMessage.model_construct(text=readable, errors=field_errors(errors))


SentMessage = Annotated[NewMessage, WrapValidator(_keep_words)]
"""A NewMessage, or an UnfitMessage where what was sent is none but says something."""


class ReadUpTo(Body):
    number: Annotated[int, Field(ge=1)]


class NewHold(Body):
    practitioner_id: UUID
    starts_at: Instant
    reason: VisitReason = "other"
    alert_id: UUID | None = None


class NewVisit(Body):
    hold_id: UUID
    reason: VisitReason | None = None


class NewTime(Body):
    practitioner_id: UUID
    starts_at: Instant
    moved_from: Instant | None = None
    """The start that the caller saw: a move that comes late, or again, does not undo a later one."""


class Completion(Body):
    action: Literal["continue", "step-back", "hold", "reviewed"]
    exercises: Annotated[list[Exercise], Field(max_length=5)] = []
    """None named = all of the plan."""
    note: Note | None = None
    """Stays here: the other services learn the recommendation only."""


Seen = Annotated[int | None, Field(ge=0)]
"""The alert's `repeats` as the caller saw them. If it has asked again since, nothing happens: 409 `asked-again`."""


class Acknowledgement(Body):
    seen: Seen = None
    """A client that does not say takes the alert on as it is now; whoever shows alerts to people says it."""


class Snooze(Body):
    until: Instant
    seen: Seen = None
    """Needed until somebody has acknowledged what the alert asks now: 409 `not-seen`."""


class HandOver(Body):
    to_role: PractitionerRole
    seen: Seen = None
    """As in a snooze."""


class Resolution(Body):
    outcome: AlertOutcome
    note: Note | None = None
    seen: Seen = None
    """As in a snooze."""


class Stretch(Body):
    weekday: Annotated[int, Field(ge=1, le=7)]
    """1 Monday - 7 Sunday."""
    starts_at: time
    ends_at: time

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.starts_at.tzinfo or self.ends_at.tzinfo or self.starts_at >= self.ends_at:
            raise ValueError("a stretch of hours ends after it starts, on the wall clock, on one day")
        return self


class Week(Body):
    time_zone: TimeZone
    hours: Annotated[list[Stretch], Field(max_length=40)]

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        if not is_time_zone(name=name):
            raise ValueError("not an IANA time zone")
        return name

    @model_validator(mode="after")
    def _apart(self) -> Self:
        days = sorted((h.weekday, h.starts_at, h.ends_at) for h in self.hours)
        if any(a[0] == b[0] and b[1] < a[2] for a, b in pairwise(days)):
            raise ValueError("stretches of one day overlap")
        return self

    def weekly_hours(self) -> list[WeeklyHours]:
        return [WeeklyHours(weekday=h.weekday, starts_at=h.starts_at, ends_at=h.ends_at) for h in self.hours]


class Absence(Body):
    starts_at: Instant
    ends_at: Instant

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.starts_at >= self.ends_at:
            raise ValueError("an absence ends after it starts")
        return self


class MessageAnswer(Body):
    message_id: UUID
    number: int
    sender_role: str
    sender_id: UUID
    sender_name: str
    text: str
    sent_at: datetime

    @classmethod
    def of(cls, message: Message) -> Self:
        same = ("message_id", "number", "sender_role", "sender_id", "sender_name", "sent_at")
        return cls(**{name: getattr(message, name) for name in same}, text=message.body)


class MessageTakenAnswer(Body):
    message: MessageAnswer
    conversation_id: UUID
    instruction: str | None = None
    """What the member must do now, in their language, where the words may tell of a red flag."""


class ConversationAnswer(Body):
    member_id: UUID
    conversation_id: UUID
    messages: list[MessageAnswer]
    read_up_to: int
    """By the caller."""
    awaiting_since: datetime | None
    """Since when the member waits for an answer."""


class SlotAnswer(Body):
    starts_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, span: Span) -> Self:
        return cls(starts_at=span.starts_at, ends_at=span.ends_at)


class SlotsAnswer(Body):
    practitioner_id: UUID
    slots: list[SlotAnswer]


class VisitAnswer(Body):
    visit_id: UUID
    member_id: UUID
    practitioner: Practitioner
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    reason: VisitReason
    status: str
    hold_expires_at: datetime | None
    join_opens_at: datetime | None
    """None where there is nothing to join any more."""
    recommendation: VisitRecommendation | None
    note: str | None = None
    """Clinicians only."""

    @classmethod
    def of(cls, visit: Visit, *, rules: VisitRules, with_note: bool) -> Self:
        same = (
            "visit_id", "member_id", "practitioner", "starts_at", "ends_at", "time_zone", "reason", "status",
            "hold_expires_at", "recommendation",
        )  # fmt: skip
        opens = visit.starts_at - rules.join_before if visit.status == "booked" else None
        note = visit.note if with_note else None
        return cls(**{name: getattr(visit, name) for name in same}, join_opens_at=opens, note=note)


class AlertAnswer(Body):
    alert_id: UUID
    member_id: UUID
    kind: str
    priority: str
    status: str
    summary: str
    reason: str
    rule_id: str
    rule_version: int
    raised_at: datetime
    last_raised_at: datetime
    repeats: int
    """What `seen` names in a command."""
    owner: Practitioner | None
    owner_role: PractitionerRole
    level: int
    respond_by: datetime
    snoozed_until: datetime | None
    settled_at: datetime | None
    acknowledged_by: Practitioner | None
    acknowledged_at: datetime | None
    resolved_by_name: str | None
    resolved_at: datetime | None
    outcome: AlertOutcome | None
    correlationid: str
    """The chain that it belongs to."""

    @classmethod
    def of(cls, alert: Alert) -> Self:
        same = (
            "alert_id", "member_id", "kind", "priority", "status", "summary", "raised_at", "last_raised_at", "repeats",
            "level", "respond_by", "snoozed_until", "settled_at", "acknowledged_by", "acknowledged_at",
            "resolved_by_name", "resolved_at", "outcome",
        )  # fmt: skip
        return cls(
            **{name: getattr(alert, name) for name in same},
            reason=alert.decision.reason,
            rule_id=alert.decision.rule_id,
            rule_version=alert.decision.rule_version,
            owner=alert.owner.practitioner,
            owner_role=alert.owner.role,
            correlationid=alert.cause.chain,
        )


class ChainEntry(Body):
    source: str
    id: str
    type: str
    service: str
    time: datetime
    correlationid: str
    causationsource: str | None
    causationid: str | None
    summary: str

    @classmethod
    def of(cls, entry: TimelineEntry) -> Self:
        return cls(
            source=entry.source,
            id=entry.event_id,
            type=entry.event_type,
            service=entry.service,
            time=entry.occurred_at,
            correlationid=entry.correlation_id,
            causationsource=entry.caused_by_source,
            causationid=entry.caused_by_id,
            summary=entry.summary,
        )


class ChainAnswer(Body):
    member_id: UUID
    events: list[ChainEntry]
    """In order of time. An arrow leads to an event from the one whose (source, id) is its cause."""
