"""What an alert is, and what asks for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from shared.events.conversations import AlertOutcome, AlertRaised
from shared.events.envelope import CloudEvent, Decision
from shared.events.vocabulary import AlertKind, AlertPriority, Practitioner, PractitionerRole
from shared.outcomes import Cause, Command, Timer, name_event

AlertStatus = Literal["open", "acknowledged", "resolved"]
AlertAction = Literal[
    "raised",
    "repeated",
    "acknowledged",
    "undone",
    "snoozed",
    "woke",
    "reminded",
    "handed-over",
    "escalated",
    "settled",
    "resolved",
]

PRIORITIES: Final[tuple[AlertPriority, ...]] = ("routine", "soon", "urgent", "emergency")
"""Mildest first."""
ESCALATION_LEVEL_MAX: Final = 5
"""Of the alert.escalated contract: the on-call role is asked again until then, after that the alert stays overdue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who is asked. No practitioner = the on-call role as a whole."""

    role: PractitionerRole
    practitioner: Practitioner | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One episode that needs a person."""

    alert_id: UUID
    member_id: UUID
    kind: AlertKind
    episode_key: str
    priority: AlertPriority
    status: AlertStatus
    summary: str
    """One line with the number: "pain 7, usual 3"."""
    decision: Decision
    raised_at: datetime
    last_raised_at: datetime
    repeats: int
    """How often something new joined it. Who acts says which they have seen, so that nobody closes unseen what came
    after they looked."""
    owner: Owner
    level: int
    """Rung of the ladder that is asked now, 0 first."""
    respond_by: datetime
    cause: Cause
    """The alert.raised event that asked last: what is done about the alert names it."""
    snoozed_until: datetime | None = None
    settled_at: datetime | None = None
    """When the pain went back to usual; the alert still waits for a person."""
    acknowledged_by: Practitioner | None = None
    """Who last took on what it asks now; kept when it asks again only because nothing has come of it."""
    acknowledged_at: datetime | None = None
    resolved_by_id: UUID | None = None
    resolved_by_name: str | None = None
    resolved_at: datetime | None = None
    outcome: AlertOutcome | None = None
    note: str | None = None


def raised_event(*, alert_id: UUID, because: CloudEvent | Command | Timer) -> Cause:
    """The alert.raised event that asks because of this."""
    return name_event(AlertRaised, service="messaging", about=alert_id, because=because)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """Something happened that needs a person."""

    member_id: UUID
    kind: AlertKind
    priority: AlertPriority
    episode_key: str
    """Same key = same episode = same alert."""
    summary: str
    decision: Decision
    because: CloudEvent | Command | Timer


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRules:
    """The versioned rule data of alerts (library/alert_rules.yaml)."""

    respond_within: Mapping[AlertPriority, timedelta]
    """Time to acknowledge before the next in line is asked."""
    resolve_within: Mapping[AlertPriority, timedelta]
    """Time from an acknowledgement until the alert asks again, unless it is resolved or put off."""
    ladders: Mapping[AlertKind, tuple[PractitionerRole, ...]]
    safety_ladders: Mapping[AlertPriority, tuple[PractitionerRole, ...]]
    """Overrides the ladder of kind `safety`, by priority."""
    grouped_while_open: frozenset[AlertKind]
    """Kinds of which a member has at most one unresolved alert, whatever its key."""
    undo_within: timedelta
    snooze_max: timedelta
    first_response_within: timedelta
    """A member's message unanswered for longer raises an alert."""
    ladder_version: int
    """Of the rule `messaging.ladder`."""
    follow_up_version: int
    """Of the rule `messaging.follow-up`."""

    def ladder(self, *, kind: AlertKind, priority: AlertPriority) -> tuple[PractitionerRole, ...]:
        """Who is asked, in order."""
        return self.safety_ladders[priority] if kind == "safety" else self.ladders[kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertChange:
    """An alert as it is after something was done about it."""

    alert: Alert
    action: AlertAction
    because: CloudEvent | Command | Timer
    by: Practitioner | None = None
    detail: str = ""
    previous_role: PractitionerRole | None = None
    """Role that owned it before, where it moved: they must see it leave."""
    decision: Decision | None = None
    """Why the next in line is asked, or the same person again, where a rule says so."""
