"""Sessions, weeks, the streak and milestones."""

from services.plans.domain.care_plan import Adherence, CarePlan, Ref
from services.plans.domain.pain_baseline import pain_baseline
from services.plans.domain.rules import BaselineRule, MilestoneRule
from services.plans.domain.schedule import local_date

SESSIONS_REMEMBERED = 8


def count_session(*, plan: CarePlan, at_s: int, session_id: int, event: Ref, chain: str | None = None) -> Adherence:
    """Adherence after one session more. A session of an earlier week than the running one counts in the total only."""
    before = plan.adherence
    day = local_date(at_s=at_s, time_zone=plan.week.time_zone)
    monday = day.toordinal() - day.weekday()
    planned = len(plan.week.weekdays)
    late = before.last_session_s is not None and at_s < before.last_session_s
    week, week_sessions, streak = before.week, before.week_sessions, before.streak_weeks
    if monday > week:
        kept = monday - week == 7 and week_sessions >= planned
        week, week_sessions, streak = monday, 0, streak if kept else 0
    if monday == week:
        week_sessions += 1
        streak += 1 if week_sessions == planned else 0
    return Adherence(
        before.sessions + 1,
        before.last_session_s if late else at_s,
        before.last_session if late else event,
        week,
        week_sessions,
        streak,
        before.milestones,
        (*before.recent_sessions, session_id)[-SESSIONS_REMEMBERED:],
        before.chain if late else chain,
    )


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
    return tuple([name for name in reached if name not in adherence.milestones])
