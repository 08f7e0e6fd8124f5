"""Every session and pain report: the plan, the pain baseline, adherence and what follows from them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.plans.domain.activity import SESSION_BITS, PainReport, Session, Taken, take_pain_report, take_session
from services.plans.domain.announcements import (
    decide,
    decision_of,
    milestone_reached,
    pain_settled,
    pain_spiked,
    plan_revised,
    usual_pain_changed,
)
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.lapse import expect_lapse, follow_session
from services.plans.domain.rules import Library
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.activity import PainReported, SessionCompleted
from shared.events.plans import MilestoneReached, PainSettled, PainSpiked, PlanRevised, UsualPainChanged
from shared.outcomes import Cause, Outcomes, cause_of
from shared.red_flags import screen


async def follow_activity(
    connection: Connection, events: Sequence[SessionCompleted | PainReported], /, *, now: datetime
) -> Outcomes:
    """Take events in log order. A member without a plan yet makes theirs wait; holds are kept as state and not told."""
    library, outcomes = load_library(), Outcomes()
    plans = await load_care_plans(connection, member_ids={event.subject for event in events})
    saved: dict[UUID, CarePlan] = {}
    timers: dict[UUID, tuple[int | None, Cause]] = {}
    now_s, lapse_rule = int(now.timestamp()), library.engagement.lapse
    revisions: list[PlanRevision] = []
    for event in events:
        plan = plans.get(event.subject)
        if plan is None:
            # Later events of the member wait too: naming each keeps them in order behind this one.
            outcomes.wait(event, needs="care-plan")
            continue
        taken = _take(plan=plan, event=event, library=library)
        if taken.refused:
            outcomes.refuse(event, reason=taken.refused)
            if taken.plan is plan:
                continue
        after, moved = taken.plan, False
        if after.safety != plan.safety:
            after, moved = expect_lapse(plan=after, lapse=None)
        elif after.adherence.last_session_s != plan.adherence.last_session_s:
            after, moved = follow_session(plan=after, now_s=now_s, rule=lapse_rule)
        member_id = plan.member_id  # the key itself, which remembers its hash
        if moved:
            timers[member_id] = (after.lapse_timer_s, cause_of(event))
        plans[member_id] = saved[member_id] = after
        _tell(taken=taken, event=event, now=now, library=library, outcomes=outcomes, revisions=revisions)
    outcomes.writes += saving_care_plans(plans=saved.values(), revisions=revisions, timers=timers)
    return outcomes


def _take(*, plan: CarePlan, event: SessionCompleted | PainReported, library: Library) -> Taken:
    ref = (event.source, event.id)
    disposition = screen(findings=event.data.findings).disposition if event.data.findings else "none"
    at_s = int(event.time.timestamp())
    if isinstance(event, PainReported):
        report = PainReport(
            event=ref, at_s=at_s, score=event.data.score, context=event.data.context, disposition=disposition
        )
        return take_pain_report(plan=plan, report=report, library=library)
    data = event.data
    session = Session(
        event=ref,
        at_s=at_s,
        session_id=data.session_id.int & SESSION_BITS,
        plan_id=data.plan_id,
        chain=event.correlationid,
        pain=data.pain_during,
        pain_last_morning=data.pain_last_morning,
        results=data.exercises,
        disposition=disposition,
    )
    return take_session(plan=plan, session=session, library=library)


def _tell(
    *,
    taken: Taken,
    event: SessionCompleted | PainReported,
    now: datetime,
    library: Library,
    outcomes: Outcomes,
    revisions: list[PlanRevision],
) -> None:
    """Publish what an event led to: first what pain means, then what changes, then what was reached."""
    ref, plan, pain = (event.source, event.id), taken.plan, taken.pain
    score = event.data.score if isinstance(event, PainReported) else event.data.pain_during
    if pain is not None and plan.pain.episode is not None:
        episode_id = plan.pain.episode.id
        if pain.alert is not None:
            spiked = pain_spiked(
                episode_id=episode_id, score=score, baseline=pain.baseline, repeated=pain.repeated, rule=pain.alert,
                evidence=(ref,),
            )  # fmt: skip
            outcomes.publish(PainSpiked, spiked, because=event)
        if pain.settled is not None:
            settled = pain_settled(
                episode_id=episode_id, score=score, baseline=pain.baseline, rule=pain.settled, evidence=(ref,)
            )
            outcomes.publish(PainSettled, settled, because=event)
    if taken.usual is not None:
        changed = usual_pain_changed(usual=taken.usual, rule=library.pain.told, evidence=(ref,))
        outcomes.publish(UsualPainChanged, changed, because=event)
    if taken.changes or taken.review is not None:
        decision = (
            decide(rule=taken.review, evidence=(ref,))
            if taken.review is not None
            else decision_of(reason=taken.changes[0].reason)
        )
        revised = plan_revised(plan=plan, changes=taken.changes, decision=decision, library=library)
        outcomes.publish(PlanRevised, revised, because=event)
        revisions.append(PlanRevision(member_id=plan.member_id, decided_at=now, data=revised))
    rule = library.engagement.milestones
    for milestone in taken.milestones:
        reached = milestone_reached(milestone=milestone, rule=rule, evidence=(ref,))
        outcomes.publish(MilestoneReached, reached, because=event)
