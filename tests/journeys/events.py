"""Events as enrollment and the apps publish them, for journeys that begin on Kafka."""

from datetime import datetime
from uuid import UUID, uuid4

from shared.events import CareTeamAssigned, CloudEvent, ContactChanged, MemberEnrolled, SessionCompleted
from shared.events.activity import ExerciseResult, SessionCompletedData
from shared.events.envelope import Decision
from shared.events.members import CareTeamAssignedData, ContactChangedData, MemberEnrolledData, PainIntake
from shared.events.vocabulary import Practitioner

ENROLLMENT = "urn:careloop:enrollment"


def joining(member: UUID, *, pt: UUID, coach: UUID, at: datetime) -> list[tuple[str, CloudEvent]]:
    """What enrollment publishes when somebody joins, as (topic, event)."""
    enrolled = MemberEnrolledData(
        sponsor_id=uuid4(), intent="seeking-treatment", region="knee", cause="overuse", signs=("pain-daily",),
        pain=PainIntake(now=3, average_24h=3, usual=3), goals=("walk",), days_per_week=3, preferred_time="18:00",
        time_zone="America/New_York", state="NY", language="en", disposition="none", consented_channels=("email",),
    )  # fmt: skip
    team = CareTeamAssignedData(
        pt=Practitioner(practitioner_id=pt, role="pt", name="Petra Sim"),
        coach=Practitioner(practitioner_id=coach, role="coach", name="Cora Sim"),
        decision=Decision(rule_id="enrollment.care-team", rule_version=1, reason="licence, language, load"),
    )
    contact = ContactChangedData(
        given_name="Sim", family_name="Person", email="sim@example.org", time_zone="America/New_York", language="en"
    )
    return [
        (
            "careloop.members",
            MemberEnrolled(id=f"{member}-1", source=ENROLLMENT, time=at, subject=member, data=enrolled),
        ),
        ("careloop.members", CareTeamAssigned(id=f"{member}-2", source=ENROLLMENT, time=at, subject=member, data=team)),
        (
            "careloop.contacts",
            ContactChanged(id=f"{member}-3", source=ENROLLMENT, time=at, subject=member, data=contact),
        ),
    ]


def session(member: UUID, number: int, *, pain: int, at: datetime) -> SessionCompleted:
    """A finished session with one exercise."""
    result = ExerciseResult(exercise="bridge", step=0, sets_prescribed=3, sets_done=3, last_set_reps=10, rpe=5)
    data = SessionCompletedData(
        session_id=UUID(int=number),
        started_at=at,
        duration_min=20,
        exercises=(result,),
        pain_during=pain,
    )
    return SessionCompleted(id=f"{member}-s{number}", source="urn:test:app", time=at, subject=member, data=data)
