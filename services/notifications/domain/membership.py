"""Whether a person is a member now, and what enrolling told about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.notifications.domain.consent import Consent
from services.notifications.domain.recipient import Status
from shared.events import (
    CareTeamAssigned,
    ConsentChanged,
    MemberDisenrolled,
    MemberEnrolled,
    MemberPaused,
    MemberResumed,
    MemberScreened,
)
from shared.events.vocabulary import Language

MemberEvent: TypeAlias = (
    MemberScreened
    | MemberEnrolled
    | CareTeamAssigned
    | ConsentChanged
    | MemberPaused
    | MemberResumed
    | MemberDisenrolled
)


@dataclass(frozen=True, kw_only=True)
class Membership:
    status: Status = "unknown"
    paused_until: datetime | None = None
    state: str | None = None
    time_zone: str | None = None
    language: Language | None = None
    pt_id: UUID | None = None
    coach_id: UUID | None = None

    @property
    def awaits_team(self) -> bool:
        """Nobody cares for them yet."""
        return self.pt_id is None and self.coach_id is None and self.status != "disenrolled"


def follow_membership(*, membership: Membership, event: MemberEvent) -> Membership:
    """The membership after one event of its topic."""
    match event:
        case MemberScreened():
            return replace(membership, state=event.data.state)
        case MemberEnrolled():
            data = event.data
            return replace(
                membership,
                status="enrolled",
                paused_until=None,
                state=data.state,
                time_zone=data.time_zone,
                language=data.language,
            )
        case CareTeamAssigned():
            return replace(membership, pt_id=event.data.pt.practitioner_id, coach_id=event.data.coach.practitioner_id)
        case MemberPaused():
            return replace(membership, status="paused", paused_until=event.data.until)
        case MemberResumed():
            return replace(membership, status="enrolled", paused_until=None)
        case MemberDisenrolled():
            return replace(membership, status="disenrolled", paused_until=None)
        case ConsentChanged():
            return membership


def consents_of(*, event: MemberEvent) -> Sequence[Consent]:
    """What an event says about consent: a change of one, or what was consented to at intake."""
    match event:
        case MemberEnrolled():
            return [
                Consent(channel=channel, topic="all", granted=True, given_at=event.time)
                for channel in event.data.consented_channels
            ]
        case ConsentChanged():
            data = event.data
            return [Consent(channel=data.channel, topic=data.topic, granted=data.granted, given_at=event.time)]
        case _:
            return []
