"""A plan and its changes as the data of events."""

from datetime import date
from uuid import UUID

from services.plans.domain.care_plan import CarePlan, Item, Reason, Ref
from services.plans.domain.ladder import Change
from services.plans.domain.pain_baseline import UsualPain
from services.plans.domain.plan_issue import elements_of
from services.plans.domain.rules import Library, Rule
from shared.events.envelope import Decision, EventRef
from shared.events.plans import (
    MemberLapsedData,
    MilestoneReachedData,
    PainSettledData,
    PainSpikedData,
    PlanChange,
    PlanElement,
    PlanIssuedData,
    PlanRevisedData,
    UsualPainChangedData,
)
from shared.events.vocabulary import PlanItem, Schedule

EVIDENCE_MAX = 50


def decide(*, rule: Rule, evidence: tuple[Ref, ...], says: str | None = None) -> Decision:
    return Decision(
        rule_id=rule.id,
        rule_version=rule.version,
        reason=says or rule.says,
        evidence=_refs(evidence),
    )


def plan_issued(*, plan: CarePlan, rule: Rule, evidence: tuple[Ref, ...], library: Library) -> PlanIssuedData:
    return PlanIssuedData(
        plan_id=plan.plan_id,
        version=plan.version,
        pathway=plan.pathway,
        elements=tuple(
            PlanElement(element=element, content=content)
            for element, content in elements_of(pathway=plan.pathway, library=library)
        ),
        items=items_of(plan=plan, library=library),
        schedule=schedule_of(plan=plan),
        sessions_per_week=len(plan.week.weekdays),
        decision=decide(rule=rule, evidence=evidence),
    )


def plan_revised(
    *, plan: CarePlan, changes: tuple[Change, ...], decision: Decision, library: Library, revised_by: UUID | None = None
) -> PlanRevisedData:
    return PlanRevisedData(
        plan_id=plan.plan_id,
        version=plan.version,
        changes=tuple(
            PlanChange(
                exercise=change.exercise,
                action=change.action,
                from_step=change.from_step,
                to_step=change.to_step,
                decision=decision_of(reason=change.reason),
            )
            for change in changes
        ),
        items=items_of(plan=plan, library=library),
        schedule=schedule_of(plan=plan),
        sessions_per_week=len(plan.week.weekdays),
        revised_by=revised_by,
        decision=decision,
    )


def decision_of(*, reason: Reason) -> Decision:
    return Decision(
        rule_id=reason.rule_id, rule_version=reason.rule_version, reason=reason.says, evidence=_refs(reason.evidence)
    )


def pain_spiked(
    *,
    episode_id: UUID,
    score: int,
    baseline: float,
    repeated: bool,
    rule: Rule,
    evidence: tuple[Ref, ...],
) -> PainSpikedData:
    says = f"Pain {score}, usual {baseline:g}. {rule.says}"
    return PainSpikedData(
        episode_id=episode_id,
        score=score,
        baseline=baseline,
        repeated=repeated,
        decision=decide(rule=rule, evidence=evidence, says=says),
    )


def pain_settled(
    *, episode_id: UUID, score: int, baseline: float, rule: Rule, evidence: tuple[Ref, ...]
) -> PainSettledData:
    return PainSettledData(
        episode_id=episode_id, score=score, baseline=baseline, decision=decide(rule=rule, evidence=evidence)
    )


def usual_pain_changed(*, usual: UsualPain, rule: Rule, evidence: tuple[Ref, ...]) -> UsualPainChangedData:
    return UsualPainChangedData(
        usual_pain=usual.now,
        before=usual.before,
        decision=decide(rule=rule, evidence=evidence, says=f"{usual.now:g}, was {usual.before:g}. {rule.says}"),
    )


def member_lapsed(*, rung_d: int, missed_since: date, rule: Rule, evidence: tuple[Ref, ...]) -> MemberLapsedData:
    says = f"No session since {missed_since.isoformat()} was planned and missed; {rung_d} days have passed."
    return MemberLapsedData(
        rung_days=rung_d,  # type: ignore[arg-type]  # the rule's data allows the same four numbers only
        missed_since=missed_since,
        decision=decide(rule=rule, evidence=evidence, says=says),
    )


def milestone_reached(*, milestone: str, rule: Rule, evidence: tuple[Ref, ...]) -> MilestoneReachedData:
    return MilestoneReachedData(
        milestone=milestone,  # type: ignore[arg-type]  # named by the same list
        decision=decide(rule=rule, evidence=evidence),
    )


def items_of(*, plan: CarePlan, library: Library) -> tuple[PlanItem, ...]:
    return tuple(item_of(item=item, library=library) for item in plan.items)


def item_of(*, item: Item, library: Library) -> PlanItem:
    return PlanItem(
        exercise=item.exercise,
        step=item.step,
        step_name=library.exercises[item.exercise].ladder[item.step].name,
        sets=item.sets,
        reps=item.reps,
        hold_s=item.hold_s,
        days_per_week=item.days_per_week,
        locked=item.locked,
    )


def schedule_of(*, plan: CarePlan) -> Schedule:
    return Schedule(weekdays=plan.week.weekdays, local_time=plan.week.local_time, time_zone=plan.week.time_zone)


def _refs(evidence: tuple[Ref, ...]) -> tuple[EventRef, ...]:
    return tuple(EventRef(source=source, id=identity) for source, identity in evidence[:EVIDENCE_MAX])
