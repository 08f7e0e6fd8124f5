"""Usual pain: the median of the last non-spike readings of a kind, so that a spike does not poison it."""

from msgspec.structs import replace

from services.plans.domain.care_plan import CarePlan, PainKind, PainLevel, Value
from services.plans.domain.rules import BaselineRule, PainRules


def pain_baseline(*, level: PainLevel, kind: PainKind, rule: BaselineRule) -> float:
    """The median of the last `readings_max` readings, or what is usual where there are fewer than `readings_min`."""
    readings = level.exercise if kind == "exercise" else level.daily
    return median(readings[-rule.readings_max :]) if len(readings) >= rule.readings_min else level.usual


def usual_pain(*, level: PainLevel, rule: BaselineRule) -> float:
    """What members and clinicians are told is usual: pain during exercise."""
    return pain_baseline(level=level, kind="exercise", rule=rule)


class UsualPain(Value, frozen=True):
    """Usual pain and what it was when it was told last."""

    now: float
    before: float


def tell_usual_pain(*, plan: CarePlan, rules: PainRules) -> tuple[CarePlan, UsualPain | None]:
    """Usual pain where it has moved so far that it is told again, and the plan that knows so."""
    now, told = usual_pain(level=plan.pain, rule=rules.baseline), plan.pain.told
    before = plan.intake_usual if told is None else told
    if abs(now - before) < rules.told.moved_by:
        return plan, None
    return replace(plan, pain=replace(plan.pain, told=now)), UsualPain(now, before)


def median(scores: tuple[int, ...]) -> float:
    """The median of at least one score."""
    ordered = sorted(scores)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
