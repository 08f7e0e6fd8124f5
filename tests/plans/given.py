"""Members, plans and events for the tests of plans. Simulated people only."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from services.plans.domain.activity import Session
from services.plans.domain.care_plan import CarePlan, PainLevel
from services.plans.domain.plan_issue import Intake, issue_plan
from services.plans.store.rules import load_library
from shared.events import (
    CareTeamAssigned,
    ExerciseResult,
    MemberDisenrolled,
    MemberEnrolled,
    PainReported,
    SessionCompleted,
    VisitCompleted,
)
from shared.events.activity import PainReportedData, SessionCompletedData
from shared.events.envelope import Decision
from shared.events.members import CareTeamAssignedData, MemberDisenrolledData, MemberEnrolledData, PainIntake
from shared.events.visits import VisitCompletedData, VisitRecommendation
from shared.events.vocabulary import Practitioner

LIBRARY = load_library()
MONDAY = datetime(2026, 9, 7, 15, 0, tzinfo=UTC)
"""A Monday, 11:00 in New York."""
DAY = timedelta(days=1)
DAY_S = 86_400
MEMBER = UUID("00000000-0000-4000-8000-000000000001")
PLAN = UUID("00000000-0000-4000-8000-000000000002")
PT = UUID("00000000-0000-4000-8000-00000000000a")
COACH = UUID("00000000-0000-4000-8000-00000000000b")
APP = "urn:app:test"


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def plan(*, member_id: UUID = MEMBER, **intake: Any) -> CarePlan:
    """A plan as it is issued on a Monday: usual pain 3, three days a week, New York, arthritis."""
    values: dict[str, Any] = {
        "member_id": member_id, "event": ("urn:careloop:enrollment", "enrolled"), "at_s": seconds(MONDAY) - DAY_S,
        "cause": "arthritis", "usual_pain": 3, "days_per_week": 3, "local_time": "18:00",
        "time_zone": "America/New_York", "disposition": "none",
    }  # fmt: skip
    return issue_plan(intake=Intake(**{**values, **intake}), plan_id=PLAN, library=LIBRARY).plan


def usual_pain_of(care_plan: CarePlan, usual: int) -> CarePlan:
    """The same plan with six readings at this level."""
    return replace(care_plan, pain=PainLevel(usual=float(usual), exercise=(usual,) * 6))


def good_results(care_plan: CarePlan) -> tuple[ExerciseResult, ...]:
    """Every exercise done as well as a step up asks for."""
    return tuple(
        ExerciseResult(
            exercise=item.exercise, step=item.step, sets_prescribed=item.sets, sets_done=item.sets,
            last_set_reps=None if item.reps is None else item.reps + 2, last_set_hold_s=item.hold_s, rpe=4,
        )
        for item in care_plan.items
    )  # fmt: skip


def session(care_plan: CarePlan, *, at: datetime, **values: Any) -> Session:
    """A good session: pain 2, the last morning 2."""
    name = f"session-{at.isoformat()}"
    fields: dict[str, Any] = {
        "event": (APP, name), "at_s": seconds(at), "session_id": seconds(at), "plan_id": None, "pain": 2,
        "pain_last_morning": 2, "results": good_results(care_plan), "disposition": "none",
    }  # fmt: skip
    return Session(**{**fields, **values})


def member_enrolled(member_id: UUID, *, at: datetime = MONDAY, **data: Any) -> MemberEnrolled:
    fields: dict[str, Any] = {
        "sponsor_id": uuid4(), "intent": "seeking-treatment", "region": "knee", "cause": "arthritis",
        "signs": ("pain-daily",), "pain": PainIntake(now=4, average_24h=3, usual=3), "goals": ("walk the dog",),
        "days_per_week": 3, "preferred_time": "18:00", "time_zone": "America/New_York", "state": "NY",
        "language": "en", "disposition": "none", "consented_channels": ("email",),
    }  # fmt: skip
    return MemberEnrolled(
        id=str(uuid4()), source="urn:careloop:enrollment", time=at, subject=member_id,
        data=MemberEnrolledData(**{**fields, **data}),
    )  # fmt: skip


def member_disenrolled(member_id: UUID, *, at: datetime) -> MemberDisenrolled:
    return MemberDisenrolled(
        id=str(uuid4()), source="urn:careloop:enrollment", time=at, subject=member_id,
        data=MemberDisenrolledData(reason="member-left", effective_on=at.date()),
    )  # fmt: skip


def care_team_assigned(
    member_id: UUID, *, at: datetime = MONDAY, pt: UUID = PT, coach: UUID = COACH
) -> CareTeamAssigned:
    return CareTeamAssigned(
        id=str(uuid4()), source="urn:careloop:enrollment", time=at, subject=member_id,
        data=CareTeamAssignedData(
            pt=Practitioner(practitioner_id=pt, role="pt", name="Petra Therapist"),
            coach=Practitioner(practitioner_id=coach, role="coach", name="Cora Coach"),
            decision=Decision(rule_id="enrollment.care-team", rule_version=1, reason="licence, language, load"),
        ),
    )  # fmt: skip


def session_completed(
    member_id: UUID, *, at: datetime, care_plan: CarePlan | None = None, **data: Any
) -> SessionCompleted:
    """A good session of the plan as it starts, unless another is given."""
    fields: dict[str, Any] = {
        "session_id": uuid4(), "started_at": at - timedelta(minutes=20), "duration_min": 20,
        "exercises": good_results(care_plan or plan()), "pain_during": 2, "pain_last_morning": 2,
    }  # fmt: skip
    return SessionCompleted(
        id=str(uuid4()), source=APP, time=at, subject=member_id, data=SessionCompletedData(**{**fields, **data})
    )


def pain_reported(member_id: UUID, *, at: datetime, score: int, context: Any = "now", **data: Any) -> PainReported:
    return PainReported(
        id=str(uuid4()), source=APP, time=at, subject=member_id,
        data=PainReportedData(score=score, context=context, **data),
    )  # fmt: skip


def visit_completed(
    member_id: UUID,
    *,
    at: datetime,
    action: Any,
    exercises: tuple[Any, ...] = (),
    role: Any = "pt",
    starts_at: datetime | None = None,
) -> VisitCompleted:
    """A visit that was documented at this time, without its start as releases before told it unless one is given."""
    return VisitCompleted(
        id=str(uuid4()), source="urn:careloop:messaging", time=at, subject=member_id,
        data=VisitCompletedData(
            visit_id=uuid4(), practitioner=Practitioner(practitioner_id=PT, role=role, name="Petra Therapist"),
            recommendation=VisitRecommendation(action=action, exercises=exercises), starts_at=starts_at,
        ),
    )  # fmt: skip
