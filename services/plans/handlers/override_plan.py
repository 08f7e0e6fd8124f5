"""A physical therapist edits, locks or unlocks an item against the engine, with a reason."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.plans.domain.announcements import decision_of, plan_revised
from services.plans.domain.clinician import Override, override_item
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.plans import PlanRevised, PlanRevisedData
from shared.outcomes import Command, Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Overridden:
    """The plan as it is told, or why nothing was changed: no-plan, version-conflict (with the version of now),
    care-ended, no-such-exercise, no-such-step, nothing-to-change."""

    outcomes: Outcomes
    revised: PlanRevisedData | None = None
    refused: str | None = None
    version: int = 0


async def override_plan(
    connection: Connection,
    *,
    member_id: UUID,
    override: Override,
    expected_version: int,
    practitioner_id: UUID,
    command: Command,
    now: datetime,
) -> Overridden:
    """One transaction with the member locked: a plan that moved on since it was read is refused, never merged."""
    library, outcomes = load_library(), Outcomes()
    plan = (await load_care_plans(connection, member_ids=[member_id])).get(member_id)
    if plan is None or plan.version == 0:
        return Overridden(outcomes=outcomes, refused="no-plan")
    if plan.status == "ended":
        return Overridden(outcomes=outcomes, refused="care-ended", version=plan.version)
    if plan.version != expected_version:
        return Overridden(outcomes=outcomes, refused="version-conflict", version=plan.version)
    cause = (command.cause.source, command.cause.id)
    revision = override_item(plan=plan, override=override, event=cause, library=library)
    if revision.refused:
        return Overridden(outcomes=outcomes, refused=revision.refused, version=plan.version)
    revised = plan_revised(
        plan=revision.plan,
        changes=revision.changes,
        decision=decision_of(reason=revision.changes[0].reason),
        library=library,
        revised_by=practitioner_id,
    )
    outcomes.publish(PlanRevised, revised, because=command)
    told = PlanRevision(member_id=member_id, decided_at=now, data=revised)
    outcomes.writes += saving_care_plans(plans=[revision.plan], revisions=[told])
    return Overridden(outcomes=outcomes, revised=revised, version=revision.plan.version)
