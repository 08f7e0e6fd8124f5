"""Closed lists of words used by events. A word means the same everywhere: code, topics, tables, pages."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from shared.events.envelope import NO_NUL, Record

PainScore = Annotated[int, Field(ge=0, le=10)]
"""Numeric rating scale 0-10, an integer (0 no pain, 10 worst imaginable)."""
Exertion = Annotated[int, Field(ge=0, le=10)]
"""Rating of perceived exertion, 0-10."""
Text80 = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=NO_NUL)]
Text300 = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=NO_NUL)]
UsState = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
TimeZone = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+\-/]+$")]
"""IANA zone name, such as America/New_York."""
LocalTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""Wall-clock time at the member's own zone, HH:MM."""

Language = Literal["en", "es"]
BodyRegion = Literal["knee"]
Intent = Literal["care-now", "seeking-treatment", "researching", "is-pt-right", "what-is-this", "other"]
Sign = Literal["pain-daily", "limited-motion", "instability", "return-to-activity", "persistent"]
Cause = Literal["arthritis", "sports-injury", "overuse", "post-surgical", "unsure"]
Exercise = Literal["quad-stretch", "hamstring-stretch", "knee-extension", "mini-squat", "bridge"]
TreatmentElement = Literal["assessment", "strengthening", "stretching", "education", "pain-relief", "prevention"]
Disposition = Literal["none", "pt-72h", "clinician-72h", "same-day", "emergency"]
"""How fast a finding must be looked at, mildest first. clinician-72h, same-day and emergency block a plan."""
Finding = Literal[
    "hot-swollen-joint",
    "deformity",
    "cold-numb-foot",
    "chest-pain-breathless",
    "saddle-numbness",
    "suicidal-thoughts",
    "recent-trauma",
    "old-trauma",
    "age-55-plus",
    "bone-tenderness",
    "cannot-flex-90",
    "cannot-take-4-steps",
    "calf-swelling",
    "dvt-risk",
    "rapid-swelling",
    "locked-knee",
    "cannot-straighten",
    "cancer-history",
    "night-pain",
    "weight-loss",
    "morning-stiffness-30",
    "many-joints",
    "progressive-weakness",
    "giving-way",
    "catching",
    "fall",
]
"""What a member reports of themself; which disposition follows is versioned data, not this list."""
PainContext = Literal["now", "average-24h", "during-exercise", "next-morning", "usual"]
PlanAction = Literal["start", "progress", "hold", "regress", "step-back", "override", "lock", "unlock", "propose"]
PractitionerRole = Literal["pt", "coach", "oncall"]
SenderRole = Literal["member", "pt", "coach", "oncall", "system"]
AlertKind = Literal["pain-spike", "safety", "lapse", "missed-visit", "unanswered-message", "bounced-contact"]
AlertPriority = Literal["emergency", "urgent", "soon", "routine"]
Channel = Literal["email", "sms", "push", "webhook"]
NotificationTopic = Literal[
    "session-reminder", "visit-reminder", "nudge", "milestone", "message", "safety-page", "account"
]


class Practitioner(Record):
    """A member of a care team. The name is the professional's own, never a patient's."""

    practitioner_id: UUID
    role: PractitionerRole
    name: Text80


class PlanItem(Record):
    """One exercise of a plan at one step of its ladder, with its prescription."""

    exercise: Exercise
    step: Annotated[int, Field(ge=0, le=20)]
    step_name: Text80
    sets: Annotated[int, Field(ge=1, le=10)]
    reps: Annotated[int, Field(ge=1, le=50)] | None = None
    hold_s: Annotated[int, Field(ge=1, le=300)] | None = None
    days_per_week: Annotated[int, Field(ge=1, le=7)]
    locked: bool = False


class Schedule(Record):
    """When sessions are planned: ISO weekdays (1 Monday - 7 Sunday) at the member's own time."""

    weekdays: Annotated[tuple[Annotated[int, Field(ge=1, le=7)], ...], Field(min_length=1, max_length=7)]
    local_time: LocalTime
    time_zone: TimeZone
