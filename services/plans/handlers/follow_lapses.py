"""A lapse timer is due: tell the rung that is reached and set the next; after 14 days the plan goes one step back."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID, uuid5

from msgspec.structs import replace

from services.plans.domain.announcements import decision_of, member_lapsed, plan_revised
from services.plans.domain.care_plan import CarePlan, Lapse
from services.plans.domain.ladder import Change, ease_after_gap
from services.plans.domain.lapse import expect_lapse, next_lapse, reached_lapse
from services.plans.domain.rules import DAY_S, Library
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.envelope import NAMESPACE
from shared.events.plans import MemberLapsed, PlanRevised
from shared.outcomes import Cause, Outcomes, Timer


async def follow_lapses(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Timers that are due. One whose rung a session has moved away is only set again."""
    library, outcomes = load_library(), Outcomes()
    plans = await load_care_plans(connection, member_ids={timer.member_id for timer in timers})
    rule, now_s = library.engagement.lapse, int(now.timestamp())
    again: dict[UUID, tuple[int | None, Cause]] = {}
    revisions: list[PlanRevision] = []
    saved: dict[UUID, CarePlan] = {}
    for timer in timers:
        plan = plans.get(timer.member_id)
        if plan is None:
            continue
        plan, cause = replace(plan, lapse_timer_s=None), timer.cause
        reached = None if plan.safety is not None else reached_lapse(plan=plan, rule=rule)
        if reached is None or plan.status != "active":
            saved[plan.member_id] = replace(plan, lapse=None)
            continue
        coming: Lapse | None = reached
        if reached.due_s > now_s:
            cause = _last_cause(plan=plan, timer=timer)
        else:
            evidence = ((cause.source, cause.id),)
            since = date.fromordinal(reached.missed_since)
            lapsed = member_lapsed(rung_d=reached.rung_d, missed_since=since, rule=rule, evidence=evidence)
            outcomes.publish(MemberLapsed, lapsed, because=timer)
            plan, changes = _ease(plan=plan, at_s=reached.due_s, library=library, evidence=evidence)
            if changes:
                decision = decision_of(reason=changes[0].reason)
                revised = plan_revised(plan=plan, changes=tuple(changes), decision=decision, library=library)
                outcomes.publish(PlanRevised, revised, because=timer)
                revisions.append(PlanRevision(member_id=timer.member_id, decided_at=now, data=revised))
            coming = next_lapse(plan=plan, reached=reached, rule=rule)
        saved[plan.member_id], moved = expect_lapse(plan=plan, lapse=coming)
        if moved:
            again[plan.member_id] = (saved[plan.member_id].lapse_timer_s, cause)
    outcomes.writes += saving_care_plans(plans=saved.values(), revisions=revisions, timers=again)
    return outcomes


def _last_cause(*, plan: CarePlan, timer: Timer) -> Cause:
    """The session from which the coming rung counts; what set the timer, where it counts from something else."""
    adherence = plan.adherence
    if adherence.last_session is None or (adherence.last_session_s or 0) < plan.started_s:
        return timer.cause
    source, identity = adherence.last_session
    return Cause(
        source=source,
        id=identity,
        # As an event without a correlation id starts its chain (shared/events/envelope.py).
        chain=adherence.chain or str(uuid5(NAMESPACE, f"{source} {identity}")),
    )


def _ease(
    *, plan: CarePlan, at_s: int, library: Library, evidence: tuple[tuple[str, str], ...]
) -> tuple[CarePlan, list[Change]]:
    """One step back once the gap is long enough, so that who comes back finds the easier plan before they start."""
    rule, last_s = library.progression.gap, plan.adherence.last_session_s
    if plan.stepped_back_for_gap or last_s is None or at_s - last_s < rule.days * DAY_S:
        return plan, []
    items, changes = ease_after_gap(
        items=plan.items, exercises=library.exercises, rule=rule, gap_s=at_s - last_s, evidence=evidence
    )
    if not changes:
        return plan, []
    return replace(plan, items=items, stepped_back_for_gap=True, version=plan.version + 1), changes
