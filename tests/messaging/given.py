"""Members, people and events for the tests of messaging. Simulated people only."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.messaging.domain.alert import Trigger
from shared.events import (
    CareTeamAssigned,
    ContactChanged,
    ExerciseResult,
    MemberEnrolled,
    MemberLapsed,
    MemberScreened,
    NotificationFailed,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
)
from shared.events.activity import SessionCompletedData
from shared.events.envelope import Decision
from shared.events.members import (
    CareTeamAssignedData,
    ContactChangedData,
    MemberEnrolledData,
    MemberScreenedData,
    PainIntake,
)
from shared.events.notifications import NotificationFailedData
from shared.events.plans import (
    MemberLapsedData,
    PainSettledData,
    PainSpikedData,
    PlanChange,
    PlanElement,
    PlanIssuedData,
    PlanRevisedData,
    SafetyFlaggedData,
    UsualPainChangedData,
)
from shared.events.vocabulary import PlanItem, Practitioner, Schedule

NOW = datetime(2026, 9, 7, 15, 0, tzinfo=UTC)
"""A Monday, 11:00 in New York."""
MEMBER = UUID("00000000-0000-4000-8000-000000000001")
OTHER_MEMBER = UUID("00000000-0000-4000-8000-000000000002")
EPISODE = UUID("00000000-0000-4000-8000-00000000000e")
PLAN = UUID("00000000-0000-4000-8000-00000000000f")
PT = Practitioner(practitioner_id=UUID("00000000-0000-4000-8000-00000000000a"), role="pt", name="Petra Therapist")
COACH = Practitioner(practitioner_id=UUID("00000000-0000-4000-8000-00000000000b"), role="coach", name="Cora Coach")
STRANGER = Practitioner(practitioner_id=UUID("00000000-0000-4000-8000-00000000000c"), role="coach", name="Sam Stranger")
ONCALL = Practitioner(practitioner_id=UUID("00000000-0000-4000-8000-00000000000d"), role="oncall", name="Otto Oncall")
TEAM_DECISION = Decision(rule_id="enrollment.care-team", rule_version=1, reason="Licence, language, load.")
DECISION = Decision(rule_id="pain.spike", rule_version=1, reason="Pain rose three points over usual.")
SCHEDULE = Schedule(weekdays=(1, 3, 5), local_time="18:00", time_zone="America/New_York")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def _envelope(source: str, member_id: UUID, at: datetime, extra: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(uuid4()), "source": f"urn:careloop:{source}", "time": at, "subject": member_id, **extra}


def enrolled(member_id: UUID = MEMBER, *, at: datetime = NOW - 30 * DAY, **extra: Any) -> MemberEnrolled:
    data = MemberEnrolledData(
        sponsor_id=uuid4(), intent="care-now", region="knee", cause="overuse", signs=("pain-daily",),
        pain=PainIntake(now=4, average_24h=3, usual=3), goals=("walk the dog",), days_per_week=3,
        preferred_time="18:00", time_zone="America/New_York", state="NY", language="en", disposition="none",
        consented_channels=("email",),
    )  # fmt: skip
    return MemberEnrolled(**_envelope("enrollment", member_id, at, extra), data=data)


def team_assigned(
    member_id: UUID = MEMBER, *, pt: Practitioner = PT, coach: Practitioner = COACH, at: datetime = NOW - 30 * DAY
) -> CareTeamAssigned:
    data = CareTeamAssignedData(pt=pt, coach=coach, decision=TEAM_DECISION)
    return CareTeamAssigned(**_envelope("enrollment", member_id, at, {}), data=data)


def contact(
    member_id: UUID = MEMBER, *, given_name: str = "Marta", family_name: str = "Muster", at: datetime = NOW - 30 * DAY
) -> ContactChanged:
    data = ContactChangedData(
        given_name=given_name, family_name=family_name, email="marta@example.org", time_zone="America/New_York",
        language="en",
    )  # fmt: skip
    return ContactChanged(**_envelope("enrollment", member_id, at, {}), data=data)


def screened(disposition: str, *findings: str, member_id: UUID = MEMBER) -> MemberScreened:
    data = MemberScreenedData(disposition=disposition, findings=findings, state="NY", decision=DECISION)  # type: ignore[arg-type]
    return MemberScreened(**_envelope("enrollment", member_id, NOW, {}), data=data)


def session(member_id: UUID = MEMBER, *, pain: int = 7, at: datetime = NOW, **extra: Any) -> SessionCompleted:
    data = SessionCompletedData(
        session_id=uuid4(), started_at=at - 20 * MINUTE, duration_min=20, pain_before=3, pain_during=pain,
        pain_last_morning=2,
        exercises=(ExerciseResult(exercise="mini-squat", step=2, sets_prescribed=3, sets_done=3, last_set_reps=10),),
    )  # fmt: skip
    return SessionCompleted(**{**_envelope("app", member_id, at, extra), "source": "urn:app:test"}, data=data)


def spiked(
    member_id: UUID = MEMBER, *, score: int = 7, baseline: float = 3.0, episode: UUID = EPISODE, repeated: bool = False,
    at: datetime = NOW, **extra: Any,
) -> PainSpiked:  # fmt: skip
    data = PainSpikedData(episode_id=episode, score=score, baseline=baseline, repeated=repeated, decision=DECISION)
    return PainSpiked(**_envelope("plans", member_id, at, extra), data=data)


def settled(member_id: UUID = MEMBER, *, episode: UUID = EPISODE, at: datetime = NOW + 6 * DAY) -> PainSettled:
    data = PainSettledData(episode_id=episode, score=3, baseline=3.0, decision=DECISION)
    return PainSettled(**_envelope("plans", member_id, at, {}), data=data)


def usual_pain_changed(level: float, *, at: datetime) -> UsualPainChanged:
    data = UsualPainChangedData(usual_pain=level, before=3, decision=DECISION)
    return UsualPainChanged(**_envelope("plans", MEMBER, at, {}), data=data)


def flagged(disposition: str, *findings: str, member_id: UUID = MEMBER, at: datetime = NOW) -> SafetyFlagged:
    data = SafetyFlaggedData(flag_id=uuid4(), disposition=disposition, findings=findings, decision=DECISION)  # type: ignore[arg-type]
    return SafetyFlagged(**_envelope("plans", member_id, at, {}), data=data)


def lapsed(rung: int, *, member_id: UUID = MEMBER, missed_since: date = date(2026, 8, 24)) -> MemberLapsed:
    data = MemberLapsedData(rung_days=rung, missed_since=missed_since, decision=DECISION)  # type: ignore[arg-type]
    return MemberLapsed(**_envelope("plans", member_id, NOW, {}), data=data)


def bounced(member_id: UUID = MEMBER) -> NotificationFailed:
    data = NotificationFailedData(
        notification_id=uuid4(), topic="session-reminder", channel="email", template="session", reason="bounced"
    )
    return NotificationFailed(**_envelope("notifications", member_id, NOW, {}), data=data)


def plan_issued(member_id: UUID = MEMBER) -> PlanIssued:
    data = PlanIssuedData(
        plan_id=PLAN, version=1, pathway="overuse", items=(squat(step=2),), schedule=SCHEDULE, sessions_per_week=3,
        elements=tuple(PlanElement(element=element, content=f"Some {element}.") for element in (
            "assessment", "strengthening", "stretching", "education", "pain-relief", "prevention")),
        decision=Decision(rule_id="plan.issue", rule_version=1, reason="Your plan for an overused knee."),
    )  # fmt: skip
    return PlanIssued(**_envelope("plans", member_id, NOW - 29 * DAY, {}), data=data)


def plan_revised(member_id: UUID = MEMBER, **extra: Any) -> PlanRevised:
    regress = Decision(rule_id="progression.regress", rule_version=1, reason="Pain of 7 is too much for this step.")
    change = PlanChange(exercise="mini-squat", action="regress", from_step=2, to_step=1, decision=regress)
    data = PlanRevisedData(
        plan_id=PLAN, version=2, changes=(change,), items=(squat(step=1),), schedule=SCHEDULE, sessions_per_week=3,
        decision=regress,
    )  # fmt: skip
    return PlanRevised(**_envelope("plans", member_id, NOW, extra), data=data)


def squat(*, step: int) -> PlanItem:
    return PlanItem(exercise="mini-squat", step=step, step_name=f"step {step}", sets=3, reps=10, days_per_week=3)


def trigger(
    kind: str = "pain-spike",
    priority: str = "soon",
    *,
    key: str = "episode",
    member_id: UUID = MEMBER,
    at: datetime = NOW,
) -> Trigger:
    return Trigger(
        member_id=member_id, kind=kind, priority=priority, episode_key=key, summary="pain 7, usual 3",  # type: ignore[arg-type]
        decision=DECISION, because=spiked(member_id, at=at),
    )  # fmt: skip
