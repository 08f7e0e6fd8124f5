"""The lapse ladder: 3, 7, 14 and 21 days after the first planned session that was missed.

Days count from the end of the missed day, so that a Monday-Wednesday-Friday member never lapses on a Monday. A session
moves the coming rung away; the member's timer is left where it is, looks when it is due, and is set again: most
sessions then cost neither a calculation nor a write.
"""

from datetime import date, timedelta
from typing import TypeAlias

from msgspec.structs import replace

from services.plans.domain.care_plan import CarePlan, Lapse
from services.plans.domain.rules import DAY_S, LapseRule
from services.plans.domain.schedule import local_date, local_midnight_s, next_planned_date

LapseStep: TypeAlias = tuple[CarePlan, bool]
"""The plan with its coming rung, and whether the member's timer is to be set to its `lapse_timer_s`, or cancelled where
that is None."""


def follow_session(*, plan: CarePlan, now_s: int, rule: LapseRule) -> LapseStep:
    """The plan after its last session moved: the first rung comes next. A timer that is due before any rung can be is
    left alone."""
    last_s, timer_s = plan.adherence.last_session_s, plan.lapse_timer_s
    soonest_d = rule.rungs_d[0]
    recent = last_s is not None and now_s - last_s < soonest_d * DAY_S
    if recent and last_s is not None and timer_s is not None and timer_s <= last_s + soonest_d * DAY_S:
        return plan if plan.lapse is None else replace(plan, lapse=None), False
    return expect_lapse(plan=plan, lapse=coming_lapse(plan=plan, now_s=now_s, rule=rule))


def reached_lapse(*, plan: CarePlan, rule: LapseRule) -> Lapse | None:
    """The rung that the member's timer stands for; None while nothing is asked of them."""
    return plan.lapse or coming_lapse(plan=plan, now_s=0, rule=rule)


def coming_lapse(*, plan: CarePlan, now_s: int, rule: LapseRule) -> Lapse | None:
    """The next rung that will be reached if nothing is done from now on; None while nothing is asked of the member, and
    past the last rung. One that has passed is not told again because a phone sent an old session late."""
    if plan.status != "active" or not plan.items or plan.safety is not None:
        return None
    since_s = max(plan.adherence.last_session_s or 0, plan.started_s)
    after = local_date(at_s=since_s, time_zone=plan.week.time_zone)
    missed = next_planned_date(after=after, weekdays=plan.week.weekdays)
    rungs = (_rung(plan=plan, missed_since=missed, rung_d=rung_d) for rung_d in rule.rungs_d)
    return next((rung for rung in rungs if rung.due_s > now_s), None)


def next_lapse(*, plan: CarePlan, reached: Lapse, rule: LapseRule) -> Lapse | None:
    """The rung after this one; None after the last."""
    later = [rung for rung in rule.rungs_d if rung > reached.rung_d]
    missed = date.fromordinal(reached.missed_since)
    return _rung(plan=plan, missed_since=missed, rung_d=later[0]) if later else None


def expect_lapse(*, plan: CarePlan, lapse: Lapse | None) -> LapseStep:
    """The plan with this rung to come. The timer is moved only where it would be too late."""
    timer_s = plan.lapse_timer_s
    if lapse is None:
        return replace(plan, lapse=None, lapse_timer_s=None), timer_s is not None
    if timer_s is None or lapse.due_s < timer_s:
        return replace(plan, lapse=lapse, lapse_timer_s=lapse.due_s), True
    return replace(plan, lapse=lapse), False


def _rung(*, plan: CarePlan, missed_since: date, rung_d: int) -> Lapse:
    due = local_midnight_s(day=missed_since + timedelta(days=1 + rung_d), time_zone=plan.week.time_zone)
    return Lapse(rung_d, missed_since.toordinal(), due)
