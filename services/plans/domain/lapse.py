"""The lapse ladder: 3, 7, 14 and 21 days after the first planned session that was missed.

Days count from the end of the missed day, so that a Monday-Wednesday-Friday member never lapses on a Monday.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from services.plans.domain.care_plan import CarePlan
from services.plans.domain.rules import LapseRule
from services.plans.domain.schedule import local_date, local_midnight_s, next_planned_date


@dataclass(frozen=True, slots=True, kw_only=True)
class LapseRung:
    rung_d: int
    missed_since: date
    due_s: int


def coming_rung(*, plan: CarePlan, now_s: int, rule: LapseRule) -> LapseRung | None:
    """The next rung that will be reached if nothing is done from now on; None while nothing is asked of the member, and
    past the last rung. One that has passed is not told again because a phone sent an old session late."""
    if plan.status != "active" or not plan.items or plan.safety is not None:
        return None
    since_s = max(plan.adherence.last_session_s or 0, plan.started_s)
    after = local_date(at_s=since_s, time_zone=plan.week.time_zone)
    missed = next_planned_date(after=after, weekdays=plan.week.weekdays)
    rungs = (_rung(plan=plan, missed_since=missed, rung_d=rung_d) for rung_d in rule.rungs_d)
    return next((rung for rung in rungs if rung.due_s > now_s), None)


def next_rung(*, plan: CarePlan, reached: LapseRung, rule: LapseRule) -> LapseRung | None:
    """The rung after this one; None after the last."""
    later = [rung for rung in rule.rungs_d if rung > reached.rung_d]
    return _rung(plan=plan, missed_since=reached.missed_since, rung_d=later[0]) if later else None


def _rung(*, plan: CarePlan, missed_since: date, rung_d: int) -> LapseRung:
    due = missed_since + timedelta(days=1 + rung_d)
    return LapseRung(
        rung_d=rung_d,
        missed_since=missed_since,
        due_s=local_midnight_s(day=due, time_zone=plan.week.time_zone),
    )
