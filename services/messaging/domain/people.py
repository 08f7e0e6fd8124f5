"""Who is cared for, and by whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid5

from shared.events.envelope import NAMESPACE
from shared.events.vocabulary import Practitioner, PractitionerRole

MemberStatus = Literal["known", "screened", "active", "paused", "disenrolled"]

ONCALL_AUDIENCE: Final = uuid5(NAMESPACE, "audience oncall")
"""Stands for the on-call role as a whole wherever a practitioner's id is expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberProfile:
    """What the care team sees of a member beside their course: name, team, place, consents."""

    member_id: UUID
    status: MemberStatus
    given_name: str | None = None
    family_name: str | None = None
    state: str | None = None
    time_zone: str | None = None
    """IANA name; none until the enrolment or a contact told it."""
    language: str = "en"
    cause: str | None = None
    signs: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    usual_pain: int | None = None
    days_per_week: int | None = None
    enrolled_at: datetime | None = None
    paused_until: datetime | None = None
    consents: Mapping[str, bool] = field(default_factory=dict)
    """"channel topic" -> granted, such as {"email all": True}."""
    pt: Practitioner | None = None
    coach: Practitioner | None = None
    team_reason: str | None = None

    @property
    def name(self) -> str | None:
        """Given and family name; none until the contact came."""
        return f"{self.given_name} {self.family_name}" if self.given_name else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CareTeam:
    """The people of one member, and which of them are absent now."""

    pt: Practitioner | None = None
    coach: Practitioner | None = None
    absent: frozenset[UUID] = frozenset()

    def present(self, *, role: PractitionerRole) -> Practitioner | None:
        """The team's person in this role, unless there is none or they are absent."""
        person = {"pt": self.pt, "coach": self.coach}.get(role)
        return person if person and person.practitioner_id not in self.absent else None


NO_TEAM: Final = CareTeam()


def acting_as(*, person: Practitioner, team: CareTeam) -> Practitioner:
    """The role in which a clinician acts for this member. Who may see them without being of their team is on call."""
    of_team = {member.practitioner_id for member in (team.pt, team.coach) if member}
    return person if person.practitioner_id in of_team else person.model_copy(update={"role": "oncall"})
