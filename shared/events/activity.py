"""Events that the platform's apps publish: what a member did and felt."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from shared.events.envelope import CloudEvent, Instant, Record
from shared.events.vocabulary import BodyRegion, Exercise, Exertion, Finding, PainContext, PainScore


class ExerciseResult(Record):
    """What was done of one exercise, against what was prescribed. A missing answer holds the step, never moves it."""

    exercise: Exercise
    step: Annotated[int, Field(ge=0, le=20)]
    """Of the exercise's ladder, as the plan said."""
    sets_prescribed: Annotated[int, Field(ge=1, le=10)]
    sets_done: Annotated[int, Field(ge=0, le=20)]
    last_set_reps: Annotated[int, Field(ge=0, le=100)] | None = None
    """Repetitions of the last set."""
    last_set_hold_s: Annotated[int, Field(ge=0, le=600)] | None = None
    """Seconds held in the last set."""
    rpe: Exertion | None = None
    """Perceived exertion, 0-10."""


class SessionCompletedData(Record):
    session_id: UUID
    plan_id: UUID | None = None
    plan_version: Annotated[int, Field(ge=1)] | None = None
    started_at: Instant
    duration_min: Annotated[int, Field(ge=1, le=240)]
    exercises: Annotated[tuple[ExerciseResult, ...], Field(min_length=1, max_length=10)]
    pain_before: PainScore | None = None
    """Numeric rating scale, 0 no pain - 10 worst imaginable, right before."""
    pain_during: PainScore
    """The worst during the session, 0-10."""
    pain_last_morning: PainScore | None = None
    """Pain on the morning after the previous session, asked at the start of this one."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)] = ()
    """What the member ticked among the warning signs; the answer over HTTP says at once what to do about them."""


class SessionCompleted(CloudEvent):
    """A member finished an exercise session. `time` is the end of the session."""

    NAME: ClassVar[str] = "session.completed"
    type: Literal["org.careloop.session.completed.v1"] = "org.careloop.session.completed.v1"
    data: SessionCompletedData


class PainReportedData(Record):
    region: BodyRegion = "knee"
    score: PainScore
    """Numeric rating scale, 0 no pain - 10 worst imaginable."""
    context: PainContext
    """When it hurt; scores of different contexts are never compared."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=40)] = ()


class PainReported(CloudEvent):
    """A member reported pain outside a session."""

    NAME: ClassVar[str] = "pain.reported"
    type: Literal["org.careloop.pain.reported.v1"] = "org.careloop.pain.reported.v1"
    data: PainReportedData
