"""How a session and the morning after it move one exercise: up, down or not at all.

A session is judged twice: at once (sets, repetitions or hold, effort, pain), and when the answer about the next morning
comes, at the latest with the next session. Only a session that was good both times counts towards a step up; a missing
answer holds. One event moves an exercise at most once, and a step down wins.
"""

from typing import Literal

from msgspec.structs import replace

from services.plans.domain.care_plan import Item, Ref, Value
from services.plans.domain.ladder import Change, because, move
from services.plans.domain.rules import DAY_S, ExerciseRule, ProgressionRules
from shared.events.activity import ExerciseResult


class Morning(Value, frozen=True):
    """The morning after a session: its answer (None: not given) against usual pain."""

    score: int | None
    baseline: float
    session: Ref | None


class Setting(Value, frozen=True):
    """What holds for all exercises of a member while one event is taken."""

    at_s: int
    event: Ref
    baseline: float
    """Usual pain during exercise."""
    post_surgical: bool
    may_progress: bool
    """False while a red flag or a review after a long gap is open."""


class Verdict(Value, frozen=True):
    """What a session says of one exercise by itself, and how many sessions in a row were incomplete."""

    word: Literal["good", "hold", "regress", "propose"]
    incomplete: int
    why: str = ""


WORSE_MORNING = "the morning after was worse than usual"


def follow_exercise(
    *,
    item: Item,
    result: ExerciseResult | None,
    pain: int,
    morning: Morning,
    setting: Setting,
    exercise: ExerciseRule,
    rules: ProgressionRules,
) -> tuple[Item, Change | None]:
    """One item after one event. `result` and `pain` are of the session that the event tells of, if any (without a
    result pain is ignored); `morning` settles the question about the session before it."""
    if result is None and item.last_sign == "none" and len(item.good) < rules.progress.sessions:
        return item, None  # nothing was done of it, and it waits for nothing
    good, worse = _after_morning(item=item, morning=morning, rules=rules)
    session = (morning.session,) if worse and morning.session is not None else ()
    if result is None:
        after = _with(item=item, good=good, incomplete=item.incomplete, last_sign="none")
        if worse:
            return _down(
                item=after, why=WORSE_MORNING, sessions=session, setting=setting, exercise=exercise, rules=rules
            )
        return _up(item=after, setting=setting, exercise=exercise, rules=rules)
    verdict = judge_session(item=item, result=result, pain=pain, setting=setting, exercise=exercise, rules=rules)
    if verdict.word == "regress":
        after = _with(item=item, good=(), incomplete=0, last_sign="regressed")
        return _down(item=after, why=verdict.why, sessions=(), setting=setting, exercise=exercise, rules=rules)
    if worse:
        after = _with(item=item, good=(), incomplete=verdict.incomplete, last_sign="hold")
        return _down(item=after, why=WORSE_MORNING, sessions=session, setting=setting, exercise=exercise, rules=rules)
    if verdict.word != "good":
        after = _with(item=item, good=(), incomplete=verdict.incomplete, last_sign="hold")
        if verdict.word == "hold":
            return after, None
        return _propose(
            item=after, to_step=item.step - 1, why=verdict.why, setting=setting, exercise=exercise, rules=rules
        )
    after = _with(item=item, good=good, incomplete=0, last_sign="good")
    return _up(item=after, setting=setting, exercise=exercise, rules=rules)


def judge_session(
    *, item: Item, result: ExerciseResult, pain: int, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules
) -> Verdict:
    regress = rules.regress
    complete = result.sets_done >= item.sets
    incomplete = 0 if complete else item.incomplete + 1
    if result.rpe is not None and result.rpe >= regress.rpe_min:
        return Verdict("regress", incomplete, f"effort was {result.rpe} of 10")
    if incomplete >= regress.incomplete_sessions:
        return Verdict("regress", incomplete, f"{incomplete} sessions in a row were not finished")
    if pain >= (regress.pain_min_post_surgical if setting.post_surgical else regress.pain_min):
        high = setting.baseline >= rules.propose_high_pain.baseline_min
        return Verdict("propose" if high else "regress", incomplete, f"pain during the session was {pain} of 10")
    good = complete and _is_good(item=item, result=result, pain=pain, exercise=exercise, rules=rules)
    return Verdict("good" if good else "hold", incomplete)


def _is_good(*, item: Item, result: ExerciseResult, pain: int, exercise: ExerciseRule, rules: ProgressionRules) -> bool:
    rule = rules.progress
    if result.step != item.step or pain > rule.pain_max or result.rpe is None or result.rpe > rule.rpe_max:
        return False
    if exercise.kind == "stretch":
        done, asked = result.last_set_hold_s, item.hold_s
        return done is not None and asked is not None and done >= asked
    done, asked = result.last_set_reps, item.reps
    return done is not None and asked is not None and done >= asked + rule.extra_reps


def _after_morning(*, item: Item, morning: Morning, rules: ProgressionRules) -> tuple[tuple[Ref, ...], bool]:
    """Good sessions in a row once the question about the last morning is settled, answered or not; and whether the
    answer alone asks for a step down."""
    sign, score = item.last_sign, morning.score
    if sign == "none":
        return item.good, False
    if score is None:
        return (), False
    if sign == "good" and score <= morning.baseline and morning.session is not None:
        return (*item.good, morning.session)[-rules.progress.sessions :], False
    # A session that went down at once goes down once.
    return (), sign != "regressed" and score >= morning.baseline + rules.regress.next_morning_above


def _with(
    *,
    item: Item,
    good: tuple[Ref, ...],
    incomplete: int,
    last_sign: Literal["none", "good", "hold", "regressed"],
) -> Item:
    if good == item.good and incomplete == item.incomplete and last_sign == item.last_sign:
        return item
    return replace(item, good=good, incomplete=incomplete, last_sign=last_sign)


def _up(*, item: Item, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules) -> tuple[Item, Change | None]:
    if len(item.good) < rules.progress.sessions or item.locked or item.step >= exercise.top or not setting.may_progress:
        return item, None
    why = f"{len(item.good)} good sessions in a row"
    if setting.post_surgical:
        return _propose(item=item, to_step=item.step + 1, why=why, setting=setting, exercise=exercise, rules=rules)
    if item.progressed_s is not None and setting.at_s - item.progressed_s < rules.pace.days * DAY_S:
        return item, None
    to_step = item.step + 1
    says = f"{why} and calm mornings: up to {exercise.ladder[to_step].name}."
    reason = because(action="progress", rule=rules.progress, says=says, evidence=_evidence(item.good, setting))
    moved, change = move(item=item, to_step=to_step, rule=exercise, reason=reason)
    return replace(moved, progressed_s=setting.at_s), change


def _down(
    *,
    item: Item,
    why: str,
    sessions: tuple[Ref, ...],
    setting: Setting,
    exercise: ExerciseRule,
    rules: ProgressionRules,
) -> tuple[Item, Change | None]:
    if item.locked or item.step == 0:
        return item, None
    to_step = item.step - 1
    says = f"One step easier, {exercise.ladder[to_step].name}, because {why}."
    reason = because(action="regress", rule=rules.regress, says=says, evidence=_evidence(sessions, setting))
    return move(item=item, to_step=to_step, rule=exercise, reason=reason)


def _propose(
    *, item: Item, to_step: int, why: str, setting: Setting, exercise: ExerciseRule, rules: ProgressionRules
) -> tuple[Item, Change | None]:
    """Ask the physical therapist; at most once per exercise in the days between two steps up."""
    recently = item.proposed_s is not None and setting.at_s - item.proposed_s < rules.pace.days * DAY_S
    if item.locked or to_step < 0 or recently:
        return item, None
    rule = rules.propose_post_surgical if to_step > item.step else rules.propose_high_pain
    says = f"Your physical therapist is asked about {exercise.ladder[to_step].name}, because of this: {why}."
    reason = because(action="propose", rule=rule, says=says, evidence=_evidence(item.good, setting))
    change = Change(exercise=item.exercise, action="propose", from_step=item.step, to_step=to_step, reason=reason)
    return replace(item, proposed_s=setting.at_s), change


def _evidence(sessions: tuple[Ref, ...], setting: Setting) -> tuple[Ref, ...]:
    return tuple(dict.fromkeys((*sessions, setting.event)))
