"""A practitioner's time: weekly hours, absences, visits; and what of it is free."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.messaging.domain.slots import Span, WeeklyHours, find_slots
from services.messaging.domain.visit import Visit, VisitRules
from shared.events.vocabulary import Practitioner


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    practitioner: Practitioner
    time_zone: str
    """IANA name: the weekly hours are on its wall clock."""
    hours: tuple[WeeklyHours, ...]
    hours_assumed: bool
    """Nobody entered them: the default week."""
    absences: tuple[Span, ...]
    visits: tuple[Visit, ...]
    """Not the cancelled ones; holds too."""


def free_slots(*, calendar: Calendar, window: Span, member_id: UUID, rules: VisitRules, now: datetime) -> list[Span]:
    """Slots that this member can take, in order. A hold that is over takes no time, nor does the member's own: they are
    choosing again."""
    taken = [
        visit.span
        for visit in calendar.visits
        if visit.status != "held"
        or (visit.member_id != member_id and visit.hold_expires_at is not None and visit.hold_expires_at > now)
    ]
    earliest = max(window.starts_at, now + rules.lead_min)
    latest = min(window.ends_at, now + rules.ahead_max)
    if earliest >= latest:
        return []
    return find_slots(
        hours=calendar.hours,
        time_zone=calendar.time_zone,
        taken=[*taken, *calendar.absences],
        window=Span(starts_at=earliest, ends_at=latest),
        length=rules.length,
    )
