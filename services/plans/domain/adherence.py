"""Sessions, weeks, the streak and milestones."""

from datetime import timedelta

from services.plans.domain.care_plan import Adherence, CarePlan, Ref
from services.plans.domain.pain_baseline import pain_baseline
from services.plans.domain.rules import BaselineRule, MilestoneRule
from services.plans.domain.schedule import local_date

SESSIONS_REMEMBERED = 8


def count_session(*, plan: CarePlan, at_s: int, session_id: int, event: Ref, chain: str | None = None) -> Adherence:
    """Adherence after one session more. A session of an earlier week than the running one counts in the total only."""
    before = plan.adherence
    day = local_date(at_s=at_s, time_zone=plan.week.time_zone)
    monday = (day - timedelta(days=day.weekday())).toordinal()
    planned = len(plan.week.weekdays)
    late = before.last_session_s is not None and at_s < before.last_session_s
    counted = before._replace(
        sessions=before.sessions + 1,
        recent_sessions=(*before.recent_sessions, session_id)[-SESSIONS_REMEMBERED:],
        last_session_s=before.last_session_s if late else at_s,
        last_session=before.last_session if late else event,
        chain=before.chain if late else chain,
    )
    if monday < before.week:
        return counted
    if monday > before.week:
        kept = monday - before.week == 7 and before.week_sessions >= planned
        counted = counted._replace(week=monday, week_sessions=0, streak_weeks=before.streak_weeks if kept else 0)
    done = counted.week_sessions + 1
    full_now = done == planned
    return counted._replace(week_sessions=done, streak_weeks=counted.streak_weeks + (1 if full_now else 0))


def reach_milestones(*, plan: CarePlan, rule: MilestoneRule, baseline: BaselineRule) -> tuple[str, ...]:
    """Milestones that are reached now and were not before, in a fixed order."""
    adherence = plan.adherence
    reached = [name for name, sessions in rule.sessions.items() if adherence.sessions >= sessions]
    if adherence.streak_weeks >= 1:
        reached.append("first-week")
    if adherence.streak_weeks >= rule.streak_weeks:
        reached.append("streak-4-weeks")
    readings = plan.pain.exercise
    if plan.intake_usual > 0 and len(readings) >= baseline.readings_max:
        usual = pain_baseline(level=plan.pain, kind="exercise", rule=baseline)
        if usual <= plan.intake_usual * rule.pain_fraction_max:
            reached.append("pain-halved")
    return tuple(name for name in reached if name not in adherence.milestones)
