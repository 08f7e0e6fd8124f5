"""How a session and the morning after it move one exercise: up, down or not at all.

A session is judged twice: at once (sets, repetitions or hold, effort, pain), and when the answer about the next morning
comes, at the latest with the next session. Only a session that was good both times counts towards a step up; a missing
answer holds. One event moves an exercise at most once, and a step down wins.
"""

from dataclasses import dataclass, replace
from typing import Literal

from services.plans.domain.care_plan import Item, Ref
from services.plans.domain.ladder import Change, because, move
from services.plans.domain.rules import DAY_S, ExerciseRule, ProgressionRules, Rule
from shared.events.vocabulary import Exercise


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was done of one exercise in a session."""

    exercise: Exercise
    step: int
    sets_done: int
    reps: int | None
    hold_s: int | None
    rpe: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Morning:
    """The morning after a session: its answer (None: not given) against usual pain."""

    score: int | None
    baseline: float
    session: Ref | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for all exercises of a member while one event is taken."""

    at_s: int
    event: Ref
    baseline: float
    """Usual pain during exercise."""
    post_surgical: bool
    may_progress: bool
    """False while a red flag or a review after a long gap is open."""


Verdict = Literal["good", "hold", "regress", "propose"]


def follow_exercise(
    *,
    item: Item,
    result: Result | None,
    pain: int,
    morning: Morning | None,
    setting: Setting,
    exercise: ExerciseRule,
    rules: ProgressionRules,
) -> tuple[Item, Change | None]:
    """One item after one event: `result` and `pain` (during the session; ignored without a result) of the session that
    the event tells of, if any; `morning`, if the event settles the question about the session before it."""
    worse = _worse_next_morning(item=item, morning=morning, rules=rules)
    counted = _count_morning(item=item, morning=morning, rules=rules) if morning is not None else item
    if result is None:
        if worse:
            return _down(
                item=counted,
                why="the morning after was worse than usual",
                setting=setting,
                exercise=exercise,
                rules=rules,
                session=morning.session if morning else None,
            )
        return _up(item=counted, setting=setting, exercise=exercise, rules=rules)
    verdict, why, incomplete = judge_session(
        item=item, result=result, pain=pain, setting=setting, exercise=exercise, rules=rules
    )
    if verdict == "regress" or worse:
        why = why if verdict == "regress" else "the morning after was worse than usual"
        session = morning.session if morning is not None and verdict != "regress" else None
        moved, change = _down(item=counted, why=why, setting=setting, exercise=exercise, rules=rules, session=session)
        return replace(moved, last_sign="regressed" if verdict == "regress" else "hold"), change
    if verdict == "propose":
        held = replace(counted, last_sign="hold", good=(), incomplete=incomplete)
        return _propose(
            item=held,
            to_step=item.step - 1,
            why=why,
            rule=rules.propose_high_pain,
            setting=setting,
            exercise=exercise,
            rules=rules,
        )
    if verdict == "hold":
        return replace(counted, last_sign="hold", good=(), incomplete=incomplete), None
    moved, change = _up(item=replace(counted, incomplete=0), setting=setting, exercise=exercise, rules=rules)
    # A session done at the step below does not count towards the next one.
    up = change is not None and change.action == "progress"
    return replace(moved, last_sign="hold" if up else "good"), change


def judge_session(
    *, item: Item, result: Result, pain: int, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules
) -> tuple[Verdict, str, int]:
    """What a session says of one exercise by itself, in which words, and how many sessions in a row were incomplete."""
    regress, progress = rules.regress, rules.progress
    complete = result.sets_done >= item.sets
    incomplete = 0 if complete else item.incomplete + 1
    if result.rpe is not None and result.rpe >= regress.rpe_min:
        return "regress", f"effort was {result.rpe} of 10", incomplete
    if incomplete >= regress.incomplete_sessions:
        return "regress", f"{incomplete} sessions in a row were not finished", incomplete
    red = regress.pain_min_post_surgical if setting.post_surgical else regress.pain_min
    if pain >= red:
        high = setting.baseline >= rules.propose_high_pain.baseline_min
        return "propose" if high else "regress", f"pain during the session was {pain} of 10", incomplete
    return (
        "good"
        if complete
        and _is_good(
            item=item,
            result=result,
            pain=pain,
            exercise=exercise,
            extra_reps=progress.extra_reps,
            rpe_max=progress.rpe_max,
            pain_max=progress.pain_max,
        )
        else "hold",
        "",
        incomplete,
    )


def _is_good(
    *, item: Item, result: Result, pain: int, exercise: ExerciseRule, extra_reps: int, rpe_max: int, pain_max: int
) -> bool:
    if result.step != item.step or pain > pain_max or result.rpe is None or result.rpe > rpe_max:
        return False
    if exercise.kind == "stretch":
        return result.hold_s is not None and item.hold_s is not None and result.hold_s >= item.hold_s
    return result.reps is not None and item.reps is not None and result.reps >= item.reps + extra_reps


def _worse_next_morning(*, item: Item, morning: Morning | None, rules: ProgressionRules) -> bool:
    if morning is None or morning.score is None or item.last_sign in ("none", "regressed"):
        return False
    return morning.score >= morning.baseline + rules.regress.next_morning_above


def _count_morning(*, item: Item, morning: Morning, rules: ProgressionRules) -> Item:
    """The item once the question about the morning after its last session is settled, answered or not."""
    if item.last_sign == "none":
        return item
    calm = morning.score is not None and morning.score <= morning.baseline
    if item.last_sign == "good" and calm and morning.session is not None:
        return replace(item, last_sign="none", good=(*item.good, morning.session)[-rules.progress.sessions :])
    return replace(item, last_sign="none", good=())


def _up(*, item: Item, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules) -> tuple[Item, Change | None]:
    if len(item.good) < rules.progress.sessions or item.locked or item.step >= exercise.top or not setting.may_progress:
        return item, None
    if setting.post_surgical:
        return _propose(
            item=item,
            to_step=item.step + 1,
            why=f"{len(item.good)} good sessions in a row",
            rule=rules.propose_post_surgical,
            setting=setting,
            exercise=exercise,
            rules=rules,
        )
    pace_s = rules.pace.days * DAY_S
    if item.progressed_s is not None and setting.at_s - item.progressed_s < pace_s:
        return item, None
    to_step = item.step + 1
    says = f"{len(item.good)} good sessions in a row and calm mornings: up to {exercise.ladder[to_step].name}."
    reason = because(action="progress", rule=rules.progress, says=says, evidence=_evidence(item.good, setting))
    moved, change = move(item=item, to_step=to_step, rule=exercise, reason=reason)
    return replace(moved, progressed_s=setting.at_s), change


def _down(
    *, item: Item, why: str, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules, session: Ref | None
) -> tuple[Item, Change | None]:
    if item.locked or item.step == 0:
        return replace(item, good=(), incomplete=0), None
    to_step = item.step - 1
    says = f"One step easier, {exercise.ladder[to_step].name}, because {why}."
    evidence = _evidence((session,) if session is not None else (), setting)
    reason = because(action="regress", rule=rules.regress, says=says, evidence=evidence)
    return move(item=item, to_step=to_step, rule=exercise, reason=reason)


def _propose(
    *, item: Item, to_step: int, why: str, rule: Rule, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules
) -> tuple[Item, Change | None]:
    """Ask the physical therapist; at most once per exercise in the days between two steps up."""
    recently = item.proposed_s is not None and setting.at_s - item.proposed_s < rules.pace.days * DAY_S
    if item.locked or to_step < 0 or recently:
        return item, None
    says = f"Your physical therapist is asked about {exercise.ladder[to_step].name}, because of this: {why}."
    reason = because(action="propose", rule=rule, says=says, evidence=_evidence(item.good, setting))
    change = Change(exercise=item.exercise, action="propose", from_step=item.step, to_step=to_step, reason=reason)
    return replace(item, proposed_s=setting.at_s), change


def _evidence(sessions: tuple[Ref, ...], setting: Setting) -> tuple[Ref, ...]:
    return tuple(dict.fromkeys((*sessions, setting.event)))
