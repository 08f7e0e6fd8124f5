"""A rung of the lapse ladder is reached: tell, set the next one, and after 14 days go one step back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.plans.domain.announcements import decision_of, member_lapsed, plan_revised
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.ladder import Change, step_back
from services.plans.domain.lapse import LapseRung, next_rung
from services.plans.domain.rules import DAY_S, Library
from services.plans.store.care_plans import load_care_plans, save_care_plans
from services.plans.store.lapse_timers import read_lapse_timer, save_lapse_timers
from services.plans.store.plan_revisions import PlanRevision, save_plan_revisions
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.plans import MemberLapsed, PlanRevised
from shared.outcomes import Cause, Outcomes, Timer


async def follow_lapses(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Timers that are due: a session, a pause or an end in the meantime has moved or cancelled them."""
    library, outcomes = load_library(), Outcomes()
    plans = await load_care_plans(connection, member_ids={timer.member_id for timer in timers})
    rungs: dict[UUID, tuple[LapseRung | None, Cause]] = {}
    revisions: list[PlanRevision] = []
    saved: dict[UUID, CarePlan] = {}
    rule = library.engagement.lapse
    for timer in timers:
        plan, reached = plans.get(timer.member_id), read_lapse_timer(timer)
        if plan is None or plan.status != "active" or plan.safety is not None:
            continue
        evidence = ((timer.cause.source, timer.cause.id),)
        lapsed = member_lapsed(rung_d=reached.rung_d, missed_since=reached.missed_since, rule=rule, evidence=evidence)
        outcomes.publish(MemberLapsed, lapsed, because=timer)
        rungs[timer.member_id] = (next_rung(plan=plan, reached=reached, rule=rule), timer.cause)
        eased, changes = _ease(plan=plan, at_s=reached.due_s, library=library, evidence=evidence)
        if changes:
            saved[timer.member_id] = eased
            revised = plan_revised(
                plan=eased, changes=tuple(changes), decision=decision_of(reason=changes[0].reason), library=library
            )
            outcomes.publish(PlanRevised, revised, because=timer)
            revisions.append(PlanRevision(member_id=timer.member_id, decided_at=now, data=revised))
    await save_care_plans(connection, plans=saved.values())
    await save_plan_revisions(connection, revisions=revisions)
    # Only rungs that follow: the timers that were due are gone already.
    await save_lapse_timers(connection, rungs={member: pair for member, pair in rungs.items() if pair[0] is not None})
    return outcomes


def _ease(
    *, plan: CarePlan, at_s: int, library: Library, evidence: tuple[tuple[str, str], ...]
) -> tuple[CarePlan, list[Change]]:
    """One step back once the gap is long enough, so that who comes back finds the easier plan before they start."""
    rule, last_s = library.progression.gap, plan.adherence.last_session_s
    if plan.stepped_back_for_gap or last_s is None or at_s - last_s < rule.days * DAY_S:
        return plan, []
    says = f"One step easier after {(at_s - last_s) // DAY_S} days without a session."
    items, changes = step_back(items=plan.items, exercises=library.exercises, rule=rule, says=says, evidence=evidence)
    if not changes:
        return plan, []
    return replace(plan, items=items, stepped_back_for_gap=True, version=plan.version + 1), changes
