"""One message to one person about one thing, from plan to result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid5

from shared.events.envelope import NAMESPACE
from shared.events.vocabulary import Channel, NotificationTopic, PractitionerRole
from shared.outcomes import Cause

State = Literal["planned", "sending", "sent", "failed", "suppressed", "expired", "unknown"]
"""planned -> sending -> sent | failed | unknown; sending -> planned where it is known that nothing was accepted,
and of a page also where nobody knows;
planned -> suppressed | expired | failed; unknown -> sent when a late answer tells."""


@dataclass(frozen=True, kw_only=True)
class Notification:
    """What is to be told, and why. Holds no address of a member and no health data."""

    notification_id: UUID
    member_id: UUID
    """Whose care it is about; the reader too, unless `page_role` names another."""
    topic: NotificationTopic
    template: str
    about: str
    """What makes it moot when it goes away, such as `session 2026-03-02`, `visit <id>`, `alert <id>`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for the template: times and ids, never health data."""
    page_role: PractitionerRole | None = None
    """A page to this role's mailbox."""
    not_before: datetime
    stale_at: datetime
    cause: Cause
    attempts: int = 0
    """Number of the latest attempt; it only grows, so that an answer finds its own attempt."""
    failures: int = 0
    """Attempts that the provider refused for now; of a page also those of which nobody knows."""
    attempted_channel: Channel | None = None
    last_error: str | None = None
    """Code of why the last attempt was not accepted."""


def notification_id_of(*, topic: NotificationTopic, member_id: UUID, occasion: str) -> UUID:
    """One occasion, one notification: planning it again finds the same row, and the provider the same message id."""
    return uuid5(NAMESPACE, f"notification {topic} {member_id} {occasion}")
