"""What events say about a member's course: readings, sessions, flares, plans."""

from collections.abc import Sequence
from typing import Any

from services.messaging.domain.course import PainEpisode, PainReading, PlanSnapshot, PlanStep, SessionDone, UsualPain
from shared.events import PainReported, PainSpiked, PlanIssued, PlanRevised, SessionCompleted, UsualPainChanged
from shared.events.vocabulary import PainContext


def readings_of(*, event: SessionCompleted | PainReported) -> list[PainReading]:
    """Every score an event holds, each with the question it answers."""
    if isinstance(event, PainReported):
        return [_reading(event, context=event.data.context, score=event.data.score)]
    data = event.data
    readings = [_reading(event, context="during-exercise", score=data.pain_during)]
    if data.pain_before is not None:
        readings.append(_reading(event, context="now", score=data.pain_before, at_start=True))
    if data.pain_last_morning is not None:
        # Asked at the start of this session about the morning after the one before; the morning itself has no time.
        readings.append(_reading(event, context="next-morning", score=data.pain_last_morning, at_start=True))
    return readings


def _reading(
    event: SessionCompleted | PainReported, *, context: PainContext, score: int, at_start: bool = False
) -> PainReading:
    started = event.data.started_at if at_start and isinstance(event, SessionCompleted) else event.time
    return PainReading(
        member_id=event.subject, source=event.source, event_id=event.id, context=context, felt_at=started, score=score
    )


def session_of(*, event: SessionCompleted) -> SessionDone:
    data = event.data
    return SessionDone(
        member_id=event.subject,
        session_id=data.session_id,
        completed_at=event.time,
        duration_min=data.duration_min,
        pain_during=data.pain_during,
        exercises=sum(1 for e in data.exercises if e.sets_done >= e.sets_prescribed),
    )


def episode_of(*, event: PainSpiked) -> PainEpisode:
    return PainEpisode(
        episode_id=event.data.episode_id,
        member_id=event.subject,
        started_at=event.time,
        settled_at=None,
        baseline=event.data.baseline,
        score_max=event.data.score,
    )


def usual_pain_of(*, event: UsualPainChanged) -> UsualPain:
    return UsualPain(
        member_id=event.subject,
        source=event.source,
        event_id=event.id,
        told_at=event.time,
        level=event.data.usual_pain,
    )


def snapshot_of(*, event: PlanIssued | PlanRevised, before: PlanSnapshot | None) -> PlanSnapshot:
    """The plan after the event; a revision keeps the pathway and the elements of the plan that it revises."""
    data, decision = event.data, event.data.decision
    same_plan = before if before is not None and before.plan_id == data.plan_id else None
    elements: Sequence[dict[str, Any]] = same_plan.elements if same_plan else ()
    pathway = same_plan.pathway if same_plan else None
    if isinstance(event, PlanIssued):
        elements, pathway = [element.model_dump(mode="json") for element in event.data.elements], event.data.pathway
    return PlanSnapshot(
        member_id=event.subject,
        plan_id=data.plan_id,
        version=data.version,
        pathway=pathway,
        elements=tuple(elements),
        items=data.items,
        schedule=data.schedule,
        sessions_per_week=data.sessions_per_week,
        reason=decision.reason,
        rule_id=decision.rule_id,
        rule_version=decision.rule_version,
        issued_at=same_plan.issued_at if same_plan and isinstance(event, PlanRevised) else event.time,
        changed_at=event.time,
    )


def steps_of(*, event: PlanRevised) -> list[PlanStep]:
    return [
        PlanStep(
            member_id=event.subject,
            plan_id=event.data.plan_id,
            version=event.data.version,
            place=place,
            exercise=change.exercise,
            action=change.action,
            from_step=change.from_step,
            to_step=change.to_step,
            reason=change.decision.reason,
            rule_id=change.decision.rule_id,
            rule_version=change.decision.rule_version,
            changed_at=event.time,
            source=event.source,
            event_id=event.id,
        )
        for place, change in enumerate(event.data.changes)
    ]
