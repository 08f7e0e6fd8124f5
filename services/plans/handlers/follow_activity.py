"""Every session and pain report: the plan, the pain baseline, adherence and what follows from them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from services.plans.domain.activity import PainReport, Session, Taken, take_pain_report, take_session
from services.plans.domain.announcements import (
    decide,
    decision_of,
    milestone_reached,
    pain_settled,
    pain_spiked,
    plan_revised,
)
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.lapse import coming_rung
from services.plans.domain.progression import Result
from services.plans.domain.rules import Library
from services.plans.store.care_plans import load_care_plans, save_care_plans
from services.plans.store.lapse_timers import save_lapse_timers
from services.plans.store.plan_revisions import PlanRevision, save_plan_revisions
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.activity import PainReported, SessionCompleted
from shared.events.envelope import NAMESPACE
from shared.events.plans import MilestoneReached, PainSettled, PainSpiked, PlanRevised
from shared.outcomes import Cause, Outcomes, cause_of
from shared.red_flags import screen


async def follow_activity(
    connection: Connection, events: Sequence[SessionCompleted | PainReported], /, *, now: datetime
) -> Outcomes:
    """Take events in log order. A member without a plan yet makes theirs wait; holds are kept as state and not told."""
    library, outcomes = load_library(), Outcomes()
    plans = await load_care_plans(connection, member_ids={event.subject for event in events})
    saved: dict[UUID, CarePlan] = {}
    moved: dict[UUID, Cause] = {}
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
            continue
        plans[event.subject] = saved[event.subject] = taken.plan
        if taken.plan.adherence.last_session_s != plan.adherence.last_session_s or taken.plan.safety != plan.safety:
            moved[event.subject] = cause_of(event)
        _tell(taken=taken, event=event, now=now, library=library, outcomes=outcomes, revisions=revisions)
    await save_care_plans(connection, plans=saved.values())
    await save_plan_revisions(connection, revisions=revisions)
    now_s, lapse = int(now.timestamp()), library.engagement.lapse
    await save_lapse_timers(
        connection,
        rungs={
            member_id: (coming_rung(plan=plans[member_id], now_s=now_s, rule=lapse), cause)
            for member_id, cause in moved.items()
        },
    )
    return outcomes


def _take(*, plan: CarePlan, event: SessionCompleted | PainReported, library: Library) -> Taken:
    ref = (event.source, event.id)
    disposition = screen(findings=event.data.findings).disposition if event.data.findings else "none"
    episode_id = uuid5(NAMESPACE, f"pain-episode {event.source} {event.id}")
    at_s = int(event.time.timestamp())
    if isinstance(event, PainReported):
        report = PainReport(
            event=ref, at_s=at_s, score=event.data.score, context=event.data.context, disposition=disposition
        )
        return take_pain_report(plan=plan, report=report, new_episode_id=episode_id, library=library)
    data = event.data
    session = Session(
        event=ref,
        at_s=at_s,
        session_id=str(data.session_id),
        plan_id=data.plan_id,
        pain=data.pain_during,
        pain_last_morning=data.pain_last_morning,
        results=tuple(
            [
                Result(
                    exercise=one.exercise, step=one.step, sets_done=one.sets_done, reps=one.last_set_reps,
                    hold_s=one.last_set_hold_s, rpe=one.rpe,
                )
                for one in data.exercises
            ]
        ),
        disposition=disposition,
    )  # fmt: skip
    return take_session(plan=plan, session=session, new_episode_id=episode_id, library=library)


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
