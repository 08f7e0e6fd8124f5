"""The life of a visit: held, booked, then completed, missed or cancelled."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from services.messaging.domain.slots import Span, WeeklyHours
from shared.events.visits import VisitReason, VisitRecommendation
from shared.events.vocabulary import Practitioner
from shared.outcomes import Cause, Refusal

VisitStatus = Literal["held", "booked", "completed", "missed", "cancelled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitRules:
    """The versioned rule data of visits (library/visit_rules.yaml)."""

    length: timedelta
    hold_for: timedelta
    lead_min: timedelta
    """A slot that starts sooner cannot be taken any more."""
    ahead_max: timedelta
    join_before: timedelta
    """The join window opens this long before the start and closes at the end."""
    missed_after: timedelta
    """After the end, while nobody completed it."""
    default_hours: tuple[WeeklyHours, ...]
    """Of a practitioner whose hours nobody entered yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    visit_id: UUID
    member_id: UUID
    practitioner: Practitioner
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    """The member's, when it was held."""
    reason: VisitReason
    status: VisitStatus
    hold_expires_at: datetime | None = None
    booked_at: datetime | None = None
    recommendation: VisitRecommendation | None = None
    note: str | None = None
    alert_id: UUID | None = None
    """The alert in whose context it was booked."""
    cause: Cause | None = None
    """What follows for the visit names this: what led to the hold, then the visit's own last event."""

    @property
    def span(self) -> Span:
        return Span(starts_at=self.starts_at, ends_at=self.ends_at)

    def joinable(self, *, now: datetime, rules: VisitRules) -> bool:
        return self.status == "booked" and self.starts_at - rules.join_before <= now < self.ends_at


def check_slot(*, starts_at: datetime, free: list[Span], rules: VisitRules, now: datetime) -> Refusal | None:
    """Why this start cannot be taken: too-soon, too-far, not-a-slot. None when it can."""
    if starts_at < now + rules.lead_min:
        return Refusal("too-soon", f"A visit starts at least {rules.lead_min.seconds // 60} minutes from now.")
    if starts_at > now + rules.ahead_max:
        return Refusal("too-far", f"At most {rules.ahead_max.days} days ahead.")
    if all(span.starts_at != starts_at for span in free):
        return Refusal("slot-taken", "This time is not free; ask for the slots again.")
    return None


def book_held(*, visit: Visit, reason: VisitReason, now: datetime) -> Visit | Refusal:
    """A hold becomes a booking. Refusals: not-held, hold-expired."""
    if visit.status != "held" or visit.hold_expires_at is None:
        return Refusal("not-held", "There is no hold to book.")
    if visit.hold_expires_at <= now:
        return Refusal("hold-expired", "The hold is over; hold a slot again.")
    return replace(visit, status="booked", reason=reason, hold_expires_at=None, booked_at=now)


def move_visit(*, visit: Visit, to: Span, practitioner: Practitioner, now: datetime) -> Visit | Refusal:
    """To another time, with the same or another practitioner. Refusals: not-booked, already-started."""
    if visit.status != "booked":
        return Refusal("not-booked", "Only a booked visit can be moved.")
    if visit.starts_at <= now:
        return Refusal("already-started", "The visit has begun.")
    return replace(visit, starts_at=to.starts_at, ends_at=to.ends_at, practitioner=practitioner)


def cancel_visit(*, visit: Visit, now: datetime) -> Visit | Refusal:
    """Refusals: not-booked, already-started."""
    if visit.status != "booked":
        return Refusal("not-booked", "Only a booked visit can be cancelled.")
    if visit.starts_at <= now:
        return Refusal("already-started", "The visit has begun.")
    return replace(visit, status="cancelled")


def complete_visit(
    *, visit: Visit, recommendation: VisitRecommendation, note: str | None, now: datetime
) -> Visit | Refusal:
    """What came of it. A visit called missed, because nobody documented it in time, may still be completed.
    Refusals: not-booked, not-started."""
    if visit.status not in ("booked", "missed"):
        return Refusal("not-booked", "Only a booked visit can be completed.")
    if visit.starts_at > now:
        return Refusal("not-started", "The visit has not begun.")
    return replace(visit, status="completed", recommendation=recommendation, note=note)


def miss_visit(*, visit: Visit, rules: VisitRules, now: datetime) -> Visit | None:
    """Nobody completed it in time; None when somebody did, or it was moved or cancelled."""
    if visit.status != "booked" or visit.ends_at + rules.missed_after > now:
        return None
    return replace(visit, status="missed")
