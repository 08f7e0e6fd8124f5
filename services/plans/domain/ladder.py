"""Moving an item along its exercise's ladder, and the change that says so."""

from dataclasses import dataclass

from msgspec.structs import replace

from services.plans.domain.care_plan import Item, Reason, Ref
from services.plans.domain.rules import DAY_S, ExerciseRule, Rule
from shared.events.vocabulary import Exercise, PlanAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One exercise moved, was proposed to move, was locked or unlocked."""

    exercise: Exercise
    action: PlanAction
    from_step: int
    to_step: int
    reason: Reason


def prescribe(*, exercise: Exercise, rule: ExerciseRule, step: int, days_per_week: int, short: bool) -> Item:
    """An item at a step with the dose of its ladder. `short`: time is short, so sets are cut (never days)."""
    dose = rule.ladder[step]
    return Item(
        exercise=exercise,
        step=step,
        sets=min(dose.sets, rule.sets_short) if short else dose.sets,
        reps=dose.reps,
        hold_s=dose.hold_s,
        days_per_week=days_per_week,
    )


def move(*, item: Item, to_step: int, rule: ExerciseRule, reason: Reason) -> tuple[Item, Change]:
    """The item at another step of its ladder, its counters at zero: what was done at the old step does not
    count towards going up from the new one. Sets that someone cut or raised are kept."""
    before, dose = rule.ladder[item.step], rule.ladder[to_step]
    moved = replace(
        item,
        step=to_step,
        sets=dose.sets if item.sets == before.sets else item.sets,
        reps=dose.reps,
        hold_s=dose.hold_s,
        good=(),
        incomplete=0,
        last_sign="hold" if item.last_sign == "good" else item.last_sign,
        proposed_s=None,
    )
    change = Change(exercise=item.exercise, action=reason.action, from_step=item.step, to_step=to_step, reason=reason)
    return moved, change


def step_back(
    *,
    items: tuple[Item, ...],
    exercises: dict[Exercise, ExerciseRule],
    rule: Rule,
    says: str,
    evidence: tuple[Ref, ...],
    even_locked: bool = False,
) -> tuple[tuple[Item, ...], list[Change]]:
    """Every item one step back, except those at their first step and, unless a person decides, the locked ones."""
    moved: list[Item] = []
    changes: list[Change] = []
    for item in items:
        if item.step == 0 or (item.locked and not even_locked):
            moved.append(item)
            continue
        reason = because(action="step-back", rule=rule, says=says, evidence=evidence)
        after, change = move(item=item, to_step=item.step - 1, rule=exercises[item.exercise], reason=reason)
        moved.append(after)
        changes.append(change)
    return tuple(moved), changes


def ease_after_gap(
    *,
    items: tuple[Item, ...],
    exercises: dict[Exercise, ExerciseRule],
    rule: Rule,
    gap_s: int,
    evidence: tuple[Ref, ...],
) -> tuple[tuple[Item, ...], list[Change]]:
    """One step back for who has been away so long. What was done at the old step does not count at the new one, up or
    down."""
    says = f"One step easier after {gap_s // DAY_S} days without a session."
    eased, changes = step_back(items=items, exercises=exercises, rule=rule, says=says, evidence=evidence)
    return tuple(replace(item, last_sign="regressed", good=(), incomplete=0) for item in eased), changes


def because(*, action: PlanAction, rule: Rule, says: str, evidence: tuple[Ref, ...]) -> Reason:
    return Reason(action=action, rule_id=rule.id, rule_version=rule.version, says=says, evidence=evidence)
