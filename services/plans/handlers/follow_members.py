"""Who is a member: a plan when they enrol, a pause, an end; and who cares for them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from msgspec.structs import replace

from services.plans.domain.announcements import plan_issued
from services.plans.domain.care_plan import CarePlan, Status
from services.plans.domain.lapse import coming_lapse, expect_lapse
from services.plans.domain.plan_issue import Intake, issue_plan, keep_red_flag
from services.plans.store.care_plans import load_care_plans, saving_care_plans
from services.plans.store.care_teams import Team, save_care_teams
from services.plans.store.plan_revisions import PlanRevision
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events.envelope import NAMESPACE
from shared.events.members import CareTeamAssigned, MemberDisenrolled, MemberEnrolled, MemberPaused, MemberResumed
from shared.events.plans import PlanIssued
from shared.outcomes import Cause, Outcomes, cause_of
from shared.red_flags import BLOCKING

MemberEvent = MemberEnrolled | CareTeamAssigned | MemberPaused | MemberResumed | MemberDisenrolled


async def follow_members(connection: Connection, events: Sequence[MemberEvent], /, *, now: datetime) -> Outcomes:
    outcomes = Outcomes()
    plans = await load_care_plans(connection, member_ids={event.subject for event in events})
    teams: dict[UUID, Team] = {}
    saved: dict[UUID, CarePlan] = {}
    timers: dict[UUID, tuple[int | None, Cause]] = {}
    now_s, rule = int(now.timestamp()), load_library().engagement.lapse
    revisions: list[PlanRevision] = []
    for event in events:
        if isinstance(event, CareTeamAssigned):
            teams[event.subject] = Team(
                member_id=event.subject,
                pt_id=event.data.pt.practitioner_id,
                coach_id=event.data.coach.practitioner_id,
            )
            continue
        before = plans.get(event.subject)
        after: CarePlan | str = (
            _enrol(event=event, before=before, now=now, outcomes=outcomes, revisions=revisions)
            if isinstance(event, MemberEnrolled)
            else _move(event=event, before=before)
        )
        if isinstance(after, str):
            outcomes.refuse(event, reason=after)
            continue
        after, moved = expect_lapse(plan=after, lapse=coming_lapse(plan=after, now_s=now_s, rule=rule))
        if moved:
            timers[event.subject] = (after.lapse_timer_s, cause_of(event))
        plans[event.subject] = saved[event.subject] = after
    await save_care_teams(connection, teams=teams.values())
    outcomes.writes += saving_care_plans(plans=saved.values(), revisions=revisions, timers=timers)
    return outcomes


def _enrol(
    *,
    event: MemberEnrolled,
    before: CarePlan | None,
    now: datetime,
    outcomes: Outcomes,
    revisions: list[PlanRevision],
) -> CarePlan | str:
    """A plan for a new member, or the reason why there is none. After surgery nothing is told until a phase."""
    if before is not None and before.status != "ended":
        return "already-has-a-plan"
    data = event.data
    if data.disposition in BLOCKING:
        return "red-flag-open"
    library = load_library()
    intake = Intake(
        member_id=event.subject,
        event=(event.source, event.id),
        at_s=int(event.time.timestamp()),
        cause=data.cause,
        usual_pain=data.pain.usual,
        days_per_week=data.days_per_week,
        local_time=data.preferred_time,
        time_zone=data.time_zone,
        disposition=data.disposition,
    )
    plan_id = uuid5(NAMESPACE, f"plan {event.source} {event.id}")
    issue = issue_plan(intake=intake, plan_id=plan_id, library=library)
    if issue.plan.version:
        issued = plan_issued(plan=issue.plan, rule=issue.rule, evidence=(intake.event,), library=library)
        outcomes.publish(PlanIssued, issued, because=event)
        revisions.append(PlanRevision(member_id=event.subject, decided_at=now, data=issued))
    return keep_red_flag(plan=issue.plan, before=before)


def _move(*, event: MemberPaused | MemberResumed | MemberDisenrolled, before: CarePlan | None) -> CarePlan | str:
    """The plan paused, resumed or ended; after a pause, planned sessions count from its end."""
    if before is None:
        return "no-plan"
    if isinstance(event, MemberDisenrolled):
        ended_s = before.ended_s if before.status == "ended" else int(event.time.timestamp())
        return replace(before, status="ended", ended_s=ended_s)
    if before.status == "ended":
        return "care-ended"
    if isinstance(event, MemberPaused):
        return replace(before, status="paused")
    resumed: Status = "active" if before.items else "awaiting-phase"
    return replace(before, status=resumed, started_s=int(event.time.timestamp()))
