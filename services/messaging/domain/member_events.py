"""What an event of enrollment means for a member's profile."""

from dataclasses import replace

from services.messaging.domain.people import MemberProfile
from shared.events import (
    CareTeamAssigned,
    CloudEvent,
    ConsentChanged,
    MemberDisenrolled,
    MemberEnrolled,
    MemberPaused,
    MemberResumed,
    MemberScreened,
)


def apply_member_event(*, profile: MemberProfile, event: CloudEvent) -> MemberProfile:
    """The profile after the event. Total: an event of another kind changes nothing."""
    match event:
        case MemberScreened(data=d):
            status = "screened" if profile.status == "known" else profile.status
            return replace(profile, status=status, state=profile.state or d.state)
        case MemberEnrolled(data=d):
            consents = {f"{channel} all": True for channel in d.consented_channels}
            return replace(
                profile,
                status="active",
                state=d.state,
                time_zone=d.time_zone,
                language=d.language,
                cause=d.cause,
                signs=d.signs,
                goals=d.goals,
                usual_pain=d.pain.usual,
                days_per_week=d.days_per_week,
                enrolled_at=event.time,
                paused_until=None,
                consents={**profile.consents, **consents},
            )
        case CareTeamAssigned(data=d):
            return replace(profile, pt=d.pt, coach=d.coach, team_reason=d.decision.reason)
        case ConsentChanged(data=d):
            return replace(profile, consents={**profile.consents, f"{d.channel} {d.topic}": d.granted})
        case MemberPaused(data=d):
            return replace(profile, status="paused", paused_until=d.until)
        case MemberResumed():
            return replace(profile, status="active", paused_until=None)
        case MemberDisenrolled():
            return replace(profile, status="disenrolled", paused_until=None)
        case _:
            return profile
