"""Events of notifications. None holds an address, a number or a text."""

from typing import ClassVar, Literal
from uuid import UUID

from shared.events.envelope import CloudEvent, Decision, Record
from shared.events.vocabulary import Channel, NotificationTopic, Text80


class NotificationSentData(Record):
    notification_id: UUID
    topic: NotificationTopic
    channel: Channel
    template: Text80


class NotificationSent(CloudEvent):
    """A provider took the notification."""

    NAME: ClassVar[str] = "notification.sent"
    type: Literal["org.careloop.notification.sent.v1"] = "org.careloop.notification.sent.v1"
    data: NotificationSentData


class NotificationFailedData(Record):
    notification_id: UUID
    topic: NotificationTopic
    channel: Channel
    template: Text80
    reason: Literal["bounced", "rejected", "unreachable", "unknown-result", "no-address"]


class NotificationFailed(CloudEvent):
    """A notification did not reach the member and will not be tried again."""

    NAME: ClassVar[str] = "notification.failed"
    type: Literal["org.careloop.notification.failed.v1"] = "org.careloop.notification.failed.v1"
    data: NotificationFailedData


class NotificationSuppressedData(Record):
    notification_id: UUID
    topic: NotificationTopic
    channel: Channel
    template: Text80
    reason: Literal["no-consent", "paused", "moot", "stale", "frequency-cap", "disenrolled", "no-address"]
    decision: Decision


class NotificationSuppressed(CloudEvent):
    """A notification whose time had come was not sent, and why."""

    NAME: ClassVar[str] = "notification.suppressed"
    type: Literal["org.careloop.notification.suppressed.v1"] = "org.careloop.notification.suppressed.v1"
    data: NotificationSuppressedData
