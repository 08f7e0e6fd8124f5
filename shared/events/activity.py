"""Events that the platform's apps publish: what a member did and felt."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.events.envelope import CloudEvent, Record
from shared.events.vocabulary import BodyRegion, Exercise, Exertion, Finding, PainContext, PainScore


class ExerciseResult(Record):
    """What was done of one exercise, against what was prescribed. A missing answer holds the step, never moves it."""

    exercise: Exercise
    step: Annotated[int, Field(ge=0, le=20)]
    sets_prescribed: Annotated[int, Field(ge=1, le=10)]
    sets_done: Annotated[int, Field(ge=0, le=20)]
    last_set_reps: Annotated[int, Field(ge=0, le=100)] | None = None
    last_set_hold_s: Annotated[int, Field(ge=0, le=600)] | None = None
    rpe: Exertion | None = None


class SessionCompletedData(Record):
    session_id: UUID
    plan_id: UUID | None = None
    plan_version: Annotated[int, Field(ge=1)] | None = None
    started_at: AwareDatetime
    duration_min: Annotated[int, Field(ge=1, le=240)]
    exercises: Annotated[tuple[ExerciseResult, ...], Field(min_length=1, max_length=10)]
    pain_before: PainScore | None = None
    pain_during: PainScore
    pain_last_morning: PainScore | None = None
    """Pain on the morning after the previous session, asked at the start of this one."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)] = ()


class SessionCompleted(CloudEvent):
    """A member finished an exercise session. `time` is the end of the session."""

    NAME: ClassVar[str] = "session.completed"
    type: Literal["org.careloop.session.completed.v1"] = "org.careloop.session.completed.v1"
    data: SessionCompletedData


class PainReportedData(Record):
    region: BodyRegion = "knee"
    score: PainScore
    context: PainContext
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)] = ()


class PainReported(CloudEvent):
    """A member reported pain outside a session."""

    NAME: ClassVar[str] = "pain.reported"
    type: Literal["org.careloop.pain.reported.v1"] = "org.careloop.pain.reported.v1"
    data: PainReportedData
