"""A member's first plan: pathway by cause, the six elements of treatment, five exercises, a week."""

from dataclasses import dataclass
from uuid import UUID

from msgspec.structs import replace

from services.plans.domain.care_plan import CarePlan, Item, PainLevel, Ref
from services.plans.domain.ladder import Change, because, prescribe
from services.plans.domain.rules import Library, Rule
from services.plans.domain.schedule import plan_week, sessions_per_week
from shared.events.vocabulary import Cause, Disposition, Exercise, TreatmentElement


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What enrollment knows of a member when a plan is issued."""

    member_id: UUID
    event: Ref
    at_s: int
    cause: Cause
    usual_pain: int
    days_per_week: int
    local_time: str
    time_zone: str
    disposition: Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A plan as it starts, and by which rule. After surgery it holds no item until a phase is signed."""

    plan: CarePlan
    rule: Rule


def issue_plan(*, intake: Intake, plan_id: UUID, library: Library) -> Issue:
    rules = library.pathways
    pathway = rules.causes[intake.cause]
    sessions = sessions_per_week(days_per_week=intake.days_per_week, rule=rules.frequency)
    week = plan_week(sessions=sessions, local_time=intake.local_time, time_zone=intake.time_zone, rule=rules.frequency)
    careful = intake.disposition == "pt-72h" or intake.cause == "unsure"
    rule = rules.first_step if careful else rules.issue
    waits = pathway == "post-surgical"
    items = () if waits else _first_items(intake=intake, careful=careful, sessions=sessions, library=library)
    plan = CarePlan(
        member_id=intake.member_id,
        plan_id=plan_id,
        version=0 if waits else 1,
        status="awaiting-phase" if waits else "active",
        pathway=pathway,
        week=week,
        items=items,
        intake_usual=intake.usual_pain,
        pain=PainLevel(usual=float(intake.usual_pain)),
        started_s=intake.at_s,
        review=rule.id if careful else None,
        review_s=intake.at_s if careful else None,
    )
    return Issue(plan=plan, rule=rules.post_surgical if waits else rule)


def keep_red_flag(*, plan: CarePlan, before: CarePlan | None) -> CarePlan:
    """The plan of a member who comes back, with the red flag of the one before if that is newer than the end of care:
    what apps tell may be read before the enrolment is. An older one is covered by the screening of the new intake."""
    if before is None or before.safety is None or before.safety_s is None:
        return plan
    if before.ended_s is not None and before.safety_s <= before.ended_s:
        return plan
    return replace(plan, safety=before.safety, safety_s=before.safety_s)


def sign_phase(
    *, plan: CarePlan, steps: dict[Exercise, int], says: str, at_s: int, event: Ref, library: Library
) -> tuple[CarePlan, tuple[Change, ...]]:
    """The plan after the physical therapist signed a phase: the exercises and steps that the phase allows. Steps beyond
    a ladder are its top."""
    reason = because(action="start", rule=library.pathways.post_surgical, says=says, evidence=(event,))
    sessions, before = len(plan.week.weekdays), {item.exercise: item.step for item in plan.items}
    items = tuple(
        prescribe(
            exercise=exercise,
            rule=one,
            step=min(max(steps[exercise], 0), one.top),
            days_per_week=min(one.days_per_week, sessions),
            short=False,
        )
        for exercise, one in library.exercises.items()
        if exercise in steps
    )
    changes = tuple(
        Change(
            exercise=item.exercise,
            action="start",
            from_step=before.get(item.exercise, item.step),
            to_step=item.step,
            reason=reason,
        )
        for item in items
    )
    status = "active" if plan.status == "awaiting-phase" else plan.status
    signed = replace(
        plan, version=plan.version + 1, status=status, items=items, started_s=at_s, review=None, review_s=None
    )
    return signed, changes


def elements_of(*, pathway: str, library: Library) -> tuple[tuple[TreatmentElement, str], ...]:
    """The six elements of treatment and what the plan does for each, in a fixed order."""
    rules = library.pathways
    contents = dict(rules.elements)
    if pathway == "post-surgical":
        contents["education"] = rules.post_surgical_education
    return tuple(contents.items())


def _first_items(*, intake: Intake, careful: bool, sessions: int, library: Library) -> tuple[Item, ...]:
    short = intake.days_per_week < library.pathways.frequency.sessions_min
    return tuple(
        prescribe(
            exercise=exercise,
            rule=one,
            step=0 if careful else one.start,
            days_per_week=min(one.days_per_week, sessions),
            short=short,
        )
        for exercise, one in library.exercises.items()
    )
