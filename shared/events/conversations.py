"""Events of messaging about conversations and alerts. A message event never holds its body."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from shared.events.envelope import CloudEvent, Decision, Instant, Record
from shared.events.vocabulary import AlertKind, AlertPriority, Practitioner, PractitionerRole, SenderRole

AlertOutcome = Literal["reached-member", "plan-adjusted", "visit-booked", "referred", "no-action-needed", "not-reached"]


class MessageSentData(Record):
    conversation_id: UUID
    message_id: UUID
    sender_role: SenderRole
    sender_id: UUID
    recipients: Annotated[tuple[Literal["member", "pt", "coach", "oncall"], ...], Field(min_length=1, max_length=4)]


class MessageSent(CloudEvent):
    """A message was sent in a member's conversation. Its text stays in messaging."""

    NAME: ClassVar[str] = "message.sent"
    type: Literal["org.careloop.message.sent.v1"] = "org.careloop.message.sent.v1"
    data: MessageSentData


class AlertRaisedData(Record):
    alert_id: UUID
    kind: AlertKind
    priority: AlertPriority
    owner: Practitioner | None = None
    """Who is asked first; none where no care team exists yet and the on-call role as a whole is asked."""
    owner_role: PractitionerRole
    respond_by: Instant
    repeated: bool = False
    decision: Decision


class AlertRaised(CloudEvent):
    """Somebody of the care team is asked to act by a time, and why."""

    NAME: ClassVar[str] = "alert.raised"
    type: Literal["org.careloop.alert.raised.v1"] = "org.careloop.alert.raised.v1"
    data: AlertRaisedData


class AlertAcknowledgedData(Record):
    alert_id: UUID
    acknowledged_by: Practitioner


class AlertAcknowledged(CloudEvent):
    """A person took the alert on."""

    NAME: ClassVar[str] = "alert.acknowledged"
    type: Literal["org.careloop.alert.acknowledged.v1"] = "org.careloop.alert.acknowledged.v1"
    data: AlertAcknowledgedData


class AlertEscalatedData(Record):
    alert_id: UUID
    level: Annotated[int, Field(ge=1, le=5)]
    owner: Practitioner | None = None
    owner_role: PractitionerRole
    respond_by: Instant
    decision: Decision


class AlertEscalated(CloudEvent):
    """Nobody acknowledged the alert in time; the next in line (coach, PT, on-call) is asked."""

    NAME: ClassVar[str] = "alert.escalated"
    type: Literal["org.careloop.alert.escalated.v1"] = "org.careloop.alert.escalated.v1"
    data: AlertEscalatedData


class AlertResolvedData(Record):
    alert_id: UUID
    resolved_by: Practitioner | None = None
    """None where the reason itself went away."""
    outcome: AlertOutcome


class AlertResolved(CloudEvent):
    """The alert is closed, with what came of it."""

    NAME: ClassVar[str] = "alert.resolved"
    type: Literal["org.careloop.alert.resolved.v1"] = "org.careloop.alert.resolved.v1"
    data: AlertResolvedData
