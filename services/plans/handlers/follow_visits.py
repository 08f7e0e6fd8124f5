"""A completed visit with a physical therapist revises the plan and clears what waited for a clinician."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.plans.domain.announcements import decision_of, pain_settled, plan_revised, usual_pain_changed
from services.plans.domain.clinician import Revision, follow_visit
from services.plans.domain.lapse import coming_lapse, expect_lapse
from services.plans.domain.rules import Library
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.plans import PainSettled, PlanRevised, UsualPainChanged
from shared.events.visits import VisitCompleted
from shared.outcomes import Cause, Outcomes, cause_of


async def follow_visits(connection: Connection, events: Sequence[VisitCompleted], /, *, now: datetime) -> Outcomes:
    """Take completed visits in log order. A coach's visit leaves the plan alone."""
    library, outcomes = load_library(), Outcomes()
    plans = await load_care_plans(connection, member_ids={event.subject for event in events})
    timers: dict[UUID, tuple[int | None, Cause]] = {}
    now_s, rule = int(now.timestamp()), library.engagement.lapse
    revisions: list[PlanRevision] = []
    for event in events:
        plan, data = plans.get(event.subject), event.data
        if data.practitioner.role == "coach":
            if data.recommendation.action != "continue":
                outcomes.refuse(event, reason="not-a-clinician")
            continue
        if plan is None:
            outcomes.wait(event, needs="care-plan")
            continue
        if plan.status == "ended":
            outcomes.refuse(event, reason="care-ended")
            continue
        revision = follow_visit(
            plan=plan,
            action=data.recommendation.action,
            exercises=data.recommendation.exercises,
            event=(event.source, event.id),
            at_s=int(event.time.timestamp()),
            began_s=None if data.starts_at is None else int(data.starts_at.timestamp()),
            library=library,
        )
        _tell(revision=revision, event=event, now=now, library=library, outcomes=outcomes, revisions=revisions)
        after = revision.plan
        if plan.safety is not None and after.safety is None:
            # Sessions are asked for again once a red flag is cleared.
            after, moved = expect_lapse(plan=after, lapse=coming_lapse(plan=after, now_s=now_s, rule=rule))
            if moved:
                timers[event.subject] = (after.lapse_timer_s, cause_of(event))
        plans[event.subject] = after
    outcomes.writes += saving_care_plans(plans=plans.values(), revisions=revisions, timers=timers)
    return outcomes


def _tell(
    *,
    revision: Revision,
    event: VisitCompleted,
    now: datetime,
    library: Library,
    outcomes: Outcomes,
    revisions: list[PlanRevision],
) -> None:
    plan, ref = revision.plan, (event.source, event.id)
    episode = plan.pain.episode
    if revision.re_anchored and episode is not None:
        settled = pain_settled(
            episode_id=episode.id,
            score=episode.recent[-1][1],
            baseline=plan.pain.usual,
            rule=library.pain.re_anchor,
            evidence=(ref,),
        )
        outcomes.publish(PainSettled, settled, because=event)
    if revision.usual is not None:
        changed = usual_pain_changed(usual=revision.usual, rule=library.pain.told, evidence=(ref,))
        outcomes.publish(UsualPainChanged, changed, because=event)
    if revision.changes:
        revised = plan_revised(
            plan=plan,
            changes=revision.changes,
            decision=decision_of(reason=revision.changes[0].reason),
            library=library,
            revised_by=event.data.practitioner.practitioner_id,
        )
        outcomes.publish(PlanRevised, revised, because=event)
        revisions.append(PlanRevision(member_id=plan.member_id, decided_at=now, data=revised))
