"""What an enrolment, a move and a departure tell the other services, and what falls due because of them."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID, uuid5

from services.enrollment.domain.care_team import CareNeed, CareTeam
from services.enrollment.domain.coverage import ends_at
from services.enrollment.domain.membership import WAITLIST_PERIOD, Membership, next_announcement
from shared.events import CareTeamAssigned, ConsentChanged, MemberEnrolled
from shared.events.envelope import NAMESPACE, EventRef
from shared.events.members import CareTeamAssignedData, ConsentChangedData, MemberEnrolledData
from shared.events.vocabulary import Channel
from shared.outcomes import Command, Outcomes, Timer, cause_of, service_source

CONTACT_TIMER: Final = "contact.announcement"
PAUSE_TIMER: Final = "pause.end"
COVERAGE_TIMER: Final = "coverage.end"
WAITLIST_TIMER: Final = "waitlist.retry"
REASSIGNMENT_TIMER: Final = "care-team.reassignment"
MEMBER_TIMERS: Final = (CONTACT_TIMER, PAUSE_TIMER, COVERAGE_TIMER, WAITLIST_TIMER, REASSIGNMENT_TIMER)


def care_need(membership: Membership) -> CareNeed:
    return CareNeed(
        state=membership.state,
        language=membership.language,
        time_zone=membership.time_zone,
        present_pt=membership.pt_id,
        present_coach=membership.coach_id,
    )


def consents_at_enrolment(
    *, channels: Sequence[Channel], said: Sequence[ConsentChangedData] = ()
) -> list[ConsentChangedData]:
    """What an intake consented to, as it holds when it is told: `said` since then, oldest first, comes after it. A
    channel that was taken back is not given again; what was said of one topic is told once more, behind the grant of
    all that would cover it."""
    taken_back: set[Channel] = set()
    topics: dict[Channel, list[ConsentChangedData]] = {}
    for one in said:
        if one.topic != "all":
            topics.setdefault(one.channel, []).append(one)
            continue
        topics.pop(one.channel, None)
        (taken_back.discard if one.granted else taken_back.add)(one.channel)
    told: list[ConsentChangedData] = []
    for channel in channels:
        if channel not in taken_back:
            told.append(ConsentChangedData(channel=channel, topic="all", granted=True, given_by="intake"))
            told += topics.get(channel, ())
    return told


def announce_enrolment(
    outcomes: Outcomes,
    *,
    enrolment: MemberEnrolledData,
    consents: Sequence[ConsentChangedData],
    team: CareTeam,
    intake_id: UUID,
    because: Command | Timer,
) -> None:
    """member.enrolled, each consent.changed, care-team.assigned: in this order in the member's log."""
    outcomes.publish(MemberEnrolled, enrolment, because=because)
    for consent in consents:
        outcomes.publish(ConsentChanged, consent, because=because)
    announce_care_team(outcomes, team=team, intake_id=intake_id, because=because)


def announce_care_team(outcomes: Outcomes, *, team: CareTeam, intake_id: UUID, because: Command | Timer) -> None:
    """`intake_id`: of the intake whose answers (state, language, hours) the team was chosen by."""
    decision = team.rule.rule.decide(team.reason, evidence=[screening_of(intake_id)])
    outcomes.publish(
        CareTeamAssigned,
        CareTeamAssignedData(pt=team.pt.as_practitioner, coach=team.coach.as_practitioner, decision=decision),
        because=because,
    )


def screening_of(intake_id: UUID) -> EventRef:
    """The member.screened of an intake. Its identity is made of the intake's, so that what is decided months later can
    still name it."""
    return EventRef(source=service_source("enrollment"), id=str(uuid5(NAMESPACE, f"member.screened {intake_id}")))


def screening_of_refused(member_id: UUID, *, told: str, day: date) -> EventRef:
    """The member.screened of somebody in care whose intake is not taken: one a day for what it tells."""
    identity = uuid5(NAMESPACE, f"member.screened {member_id} {told} {day}")
    return EventRef(source=service_source("enrollment"), id=str(identity))


def member_timer(kind: str, *, member_id: UUID, due_at: datetime, because: Command | Timer) -> Timer:
    """A timer of which each member has at most one."""
    return Timer(kind=kind, key=str(member_id), member_id=member_id, due_at=due_at, cause=cause_of(because))


def contact_timer(*, member_id: UUID, because: Command | Timer, now: datetime) -> Timer:
    """When the contact of someone in care is announced again."""
    due_at = next_announcement(member_id=member_id, after=now)
    return member_timer(CONTACT_TIMER, member_id=member_id, due_at=due_at, because=because)


def coverage_timers(*, member_id: UUID, last_covered_day: date | None, because: Command | Timer) -> list[Timer]:
    """When the coverage of someone in care or waiting is looked at again; none while it has no end."""
    if last_covered_day is None:
        return []
    due_at = ends_at(last_covered_day)
    return [member_timer(COVERAGE_TIMER, member_id=member_id, due_at=due_at, because=because)]


def waitlist_timer(*, member_id: UUID, because: Command | Timer, now: datetime) -> Timer:
    return member_timer(WAITLIST_TIMER, member_id=member_id, due_at=now + WAITLIST_PERIOD, because=because)
