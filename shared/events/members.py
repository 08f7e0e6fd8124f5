"""Events of enrollment: who a member is, and what their care team may do."""

from datetime import date
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from shared.events.envelope import CloudEvent, Decision, Instant, Record
from shared.events.vocabulary import (
    BodyRegion,
    Cause,
    Channel,
    Disposition,
    Finding,
    Intent,
    Language,
    LocalTime,
    NotificationTopic,
    PainScore,
    Practitioner,
    Sign,
    Text80,
    Text300,
    TimeZone,
    UsState,
)


class MemberScreenedData(Record):
    disposition: Disposition
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)]
    state: UsState
    decision: Decision


class MemberScreened(CloudEvent):
    """A person answered the red-flag screening. Where it blocks a plan, messaging alerts the on-call clinician."""

    NAME: ClassVar[str] = "member.screened"
    type: Literal["org.careloop.member.screened.v1"] = "org.careloop.member.screened.v1"
    data: MemberScreenedData


class Surgery(Record):
    procedure: Text80
    performed_on: date
    surgeon_cleared: bool


class PainIntake(Record):
    now: PainScore
    average_24h: PainScore
    usual: PainScore


class MemberEnrolledData(Record):
    sponsor_id: UUID
    intent: Intent
    region: BodyRegion
    cause: Cause
    signs: Annotated[tuple[Sign, ...], Field(max_length=5)]
    surgery: Surgery | None = None
    pain: PainIntake
    goals: Annotated[tuple[Text300, ...], Field(max_length=10)]
    days_per_week: Annotated[int, Field(ge=1, le=7)]
    preferred_time: LocalTime
    time_zone: TimeZone
    state: UsState
    language: Language
    disposition: Disposition
    """Of the screening; never a blocking one: a blocked member is not enrolled."""
    consented_channels: Annotated[tuple[Channel, ...], Field(max_length=4)]


class MemberEnrolled(CloudEvent):
    """A member has coverage and may be treated."""

    NAME: ClassVar[str] = "member.enrolled"
    type: Literal["org.careloop.member.enrolled.v1"] = "org.careloop.member.enrolled.v1"
    data: MemberEnrolledData


class CareTeamAssignedData(Record):
    pt: Practitioner
    coach: Practitioner
    decision: Decision
    """Why these two: licence, language, hours, load."""


class CareTeamAssigned(CloudEvent):
    """Exactly one PT licensed in the member's state and one primary coach. Replaces any earlier team."""

    NAME: ClassVar[str] = "care-team.assigned"
    type: Literal["org.careloop.care-team.assigned.v1"] = "org.careloop.care-team.assigned.v1"
    data: CareTeamAssignedData


EmailAddress = Annotated[
    str, Field(min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$")
]
"""One address without spaces or control characters, so that it cannot add headers to a mail. Whether it is somebody's
only a mail can tell."""
PhoneNumber = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
"""E.164."""


class ContactChangedData(Record):
    given_name: Text80
    family_name: Text80
    email: EmailAddress | None = None
    phone: PhoneNumber | None = None
    time_zone: TimeZone
    language: Language


class ContactChanged(CloudEvent):
    """The whole contact of a member, never a difference. Announced again monthly so that retention can end."""

    NAME: ClassVar[str] = "contact.changed"
    type: Literal["org.careloop.contact.changed.v1"] = "org.careloop.contact.changed.v1"
    data: ContactChangedData


class ConsentChangedData(Record):
    channel: Channel
    topic: NotificationTopic | Literal["all"]
    granted: bool
    given_by: Literal["member", "operator", "intake"]


class ConsentChanged(CloudEvent):
    """A member allowed or refused a channel, for one topic of notifications or for all."""

    NAME: ClassVar[str] = "consent.changed"
    type: Literal["org.careloop.consent.changed.v1"] = "org.careloop.consent.changed.v1"
    data: ConsentChangedData


class MemberPausedData(Record):
    reason: Text80
    until: Instant | None = None


class MemberPaused(CloudEvent):
    """A member asked for a break: nothing is expected of them and nothing but safety is sent."""

    NAME: ClassVar[str] = "member.paused"
    type: Literal["org.careloop.member.paused.v1"] = "org.careloop.member.paused.v1"
    data: MemberPausedData


class MemberResumedData(Record):
    reason: Text80


class MemberResumed(CloudEvent):
    """The break is over."""

    NAME: ClassVar[str] = "member.resumed"
    type: Literal["org.careloop.member.resumed.v1"] = "org.careloop.member.resumed.v1"
    data: MemberResumedData


class MemberDisenrolledData(Record):
    reason: Literal["coverage-ended", "member-left", "completed", "operator"]
    effective_on: date


class MemberDisenrolled(CloudEvent):
    """A member has no coverage any more or left; their plan ends on that day."""

    NAME: ClassVar[str] = "member.disenrolled"
    type: Literal["org.careloop.member.disenrolled.v1"] = "org.careloop.member.disenrolled.v1"
    data: MemberDisenrolledData
