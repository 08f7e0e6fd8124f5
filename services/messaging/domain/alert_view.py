"""One step of an alert's history, as shown."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import AlertAction


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertStep:
    alert_id: UUID
    action: AlertAction
    done_at: datetime
    by_id: UUID | None
    by_name: str | None
    """None: the system."""
    detail: str
