"""What a physical therapist decides about a plan: an edit against the engine, or a visit's recommendation."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from services.plans.domain.care_plan import CarePlan, Item, Ref
from services.plans.domain.ladder import Change, because, move, step_back
from services.plans.domain.pain_baseline import UsualPain, tell_usual_pain
from services.plans.domain.pain_episode import re_anchor
from services.plans.domain.rules import Library, Rule
from shared.events.vocabulary import Exercise


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A physical therapist's own decision about one exercise. Values not given stay as they are."""

    exercise: Exercise
    action: Literal["edit", "lock", "unlock"]
    reason: str
    step: int | None = None
    sets: int | None = None
    reps: int | None = None
    hold_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The plan after a person's decision. `rule` names why, `re_anchored` that usual pain was set anew, `usual` that it
    is told."""

    plan: CarePlan
    rule: Rule
    changes: tuple[Change, ...] = ()
    re_anchored: bool = False
    usual: UsualPain | None = None
    refused: str | None = None


def override_item(*, plan: CarePlan, override: Override, event: Ref, library: Library) -> Revision:
    """The plan with one item edited, locked or unlocked, one version later; refused where the plan has no such item,
    the step is not on the ladder, or nothing would change."""
    rule = library.progression.override
    item = next((one for one in plan.items if one.exercise == override.exercise), None)
    if item is None:
        return Revision(plan=plan, rule=rule, refused="no-such-exercise")
    exercise = library.exercises[override.exercise]
    if override.step is not None and override.step > exercise.top:
        return Revision(plan=plan, rule=rule, refused="no-such-step")
    if override.action == "edit":
        reason = because(action="override", rule=rule, says=override.reason, evidence=(event,))
        moved, change = move(
            item=item, to_step=item.step if override.step is None else override.step, rule=exercise, reason=reason
        )
        after = replace(
            moved,
            sets=override.sets or moved.sets,
            reps=override.reps or moved.reps,
            hold_s=override.hold_s or moved.hold_s,
        )
    else:
        after, change = _lock(item=item, locked=override.action == "lock", rule=rule, says=override.reason, event=event)
    if (after.step, after.sets, after.reps, after.hold_s, after.locked) == (
        item.step,
        item.sets,
        item.reps,
        item.hold_s,
        item.locked,
    ):
        return Revision(plan=plan, rule=rule, refused="nothing-to-change")
    items = tuple(after if one.exercise == item.exercise else one for one in plan.items)
    return Revision(plan=replace(plan, items=items, version=plan.version + 1), rule=rule, changes=(change,))


def follow_visit(
    *,
    plan: CarePlan,
    action: Literal["continue", "step-back", "hold", "reviewed"],
    exercises: Collection[Exercise],
    event: Ref,
    at_s: int,
    began_s: int | None,
    library: Library,
) -> Revision:
    """The plan after a physical therapist's visit, whose note was written at `at_s`. It clears an open red flag and a
    review that was asked for, where they were there when it began: a clinician has looked. No exercise named means all
    of them.

    The note may be days late, and what came meanwhile nobody has seen. Releases before do not tell when a visit began:
    it was not after its note, and what it cleared stays cleared where the log is read anew.

    continue: what a visit had locked goes on; step-back: one step easier; hold: nothing moves until a later visit
    continues or a therapist unlocks; reviewed: a pain level that stayed up becomes the usual one."""
    rule = library.progression.visit
    level = plan.pain
    if began_s is None:
        began_s = at_s
    if action == "reviewed" and _is_seen(plan.review_s, began_s=began_s):
        level = re_anchor(level=level, rule=library.pain.re_anchor)
    named = [item for item in plan.items if not exercises or item.exercise in exercises]
    changed: tuple[Item, ...] = ()
    changes: list[Change] = []
    if action == "step-back":
        changed, changes = step_back(
            items=tuple(named),
            exercises=library.exercises,
            rule=rule,
            evidence=(event,),
            even_locked=True,
            says="One step easier, as your physical therapist recommended after your visit.",
        )
    elif action in ("hold", "continue"):
        says = rule.says if action == "continue" else "Your physical therapist holds this step after your visit."
        pairs = [
            _lock(item=item, locked=action == "hold", rule=rule, says=says, event=event)
            for item in named
            if item.locked != (action == "hold")
        ]
        changed, changes = tuple(item for item, _ in pairs), [change for _, change in pairs]
    by_name = {item.exercise: item for item in changed}
    cleared = replace(
        _clear(plan=plan, began_s=began_s, at_s=at_s),
        items=tuple(by_name.get(item.exercise, item) for item in plan.items),
        pain=level,
        version=plan.version + (1 if changes else 0),
    )
    told, usual = tell_usual_pain(plan=cleared, rules=library.pain)
    return Revision(plan=told, rule=rule, changes=tuple(changes), re_anchored=level is not plan.pain, usual=usual)


def _clear(*, plan: CarePlan, began_s: int, at_s: int) -> CarePlan:
    if plan.safety is not None and _is_seen(plan.safety_s, began_s=began_s):
        # The days while a red flag was open were not missed.
        plan = replace(plan, safety=None, safety_s=None, started_s=at_s)
    if _is_seen(plan.review_s, began_s=began_s):
        plan = replace(plan, review=None, review_s=None)
    return plan


def _is_seen(raised_s: int | None, *, began_s: int) -> bool:
    """What was raised before a visit began. Of what an older release kept no time is known: it could else never be
    cleared."""
    return raised_s is None or raised_s <= began_s


def _lock(*, item: Item, locked: bool, rule: Rule, says: str, event: Ref) -> tuple[Item, Change]:
    reason = because(action="lock" if locked else "unlock", rule=rule, says=says, evidence=(event,))
    change = Change(exercise=item.exercise, action=reason.action, from_step=item.step, to_step=item.step, reason=reason)
    return replace(item, locked=locked, good=(), incomplete=0), change
