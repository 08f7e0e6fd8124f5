"""After surgery a physical therapist signs each phase: which exercises, at which step. Never automatic."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.plans.domain.announcements import decide, plan_issued, plan_revised
from services.plans.domain.lapse import coming_lapse, expect_lapse
from services.plans.domain.plan_issue import sign_phase
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.plans import PlanIssued, PlanIssuedData, PlanRevised, PlanRevisedData
from shared.events.vocabulary import Exercise
from shared.outcomes import Command, Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The plan as it is told, or why it was not signed: no-plan, not-post-surgical, care-ended, version-conflict."""

    outcomes: Outcomes
    told: PlanIssuedData | PlanRevisedData | None = None
    refused: str | None = None
    version: int = 0


async def sign_phases(
    connection: Connection,
    *,
    member_id: UUID,
    phase: str,
    steps: Mapping[Exercise, int],
    expected_version: int,
    practitioner_id: UUID,
    command: Command,
    now: datetime,
) -> Signed:
    """One transaction with the member locked. The first signature issues the plan, a later one revises it."""
    library, outcomes = load_library(), Outcomes()
    plan = (await load_care_plans(connection, member_ids=[member_id])).get(member_id)
    if plan is None:
        return Signed(outcomes=outcomes, refused="no-plan")
    if not plan.post_surgical:
        return Signed(outcomes=outcomes, refused="not-post-surgical", version=plan.version)
    if plan.status == "ended":
        return Signed(outcomes=outcomes, refused="care-ended", version=plan.version)
    if plan.version != expected_version:
        return Signed(outcomes=outcomes, refused="version-conflict", version=plan.version)
    now_s, cause = int(now.timestamp()), (command.cause.source, command.cause.id)
    rule, says = library.pathways.post_surgical, f"Your physical therapist signed this phase: {phase}."
    signed, changes = sign_phase(plan=plan, steps=dict(steps), says=says, at_s=now_s, event=cause, library=library)
    told: PlanIssuedData | PlanRevisedData
    if plan.version == 0:
        told = plan_issued(plan=signed, rule=rule, evidence=(cause,), library=library)
        outcomes.publish(PlanIssued, told, because=command)
    else:
        decision = decide(rule=rule, evidence=(cause,), says=says)
        told = plan_revised(
            plan=signed, changes=changes, decision=decision, library=library, revised_by=practitioner_id
        )
        outcomes.publish(PlanRevised, told, because=command)
    lapse = coming_lapse(plan=signed, now_s=now_s, rule=library.engagement.lapse)
    signed, moved = expect_lapse(plan=signed, lapse=lapse)
    outcomes.writes += saving_care_plans(
        plans=[signed],
        revisions=[PlanRevision(member_id=member_id, decided_at=now, data=told)],
        timers={member_id: (signed.lapse_timer_s, command.cause)} if moved else {},
    )
    return Signed(outcomes=outcomes, told=told, version=signed.version)
