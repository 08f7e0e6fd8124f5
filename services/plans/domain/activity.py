"""What one event of an app does to a member's plan: the rules of progression, pain and adherence, in one place."""

from datetime import timedelta
from uuid import UUID

from msgspec.structs import replace

from services.plans.domain.adherence import count_session, reach_milestones
from services.plans.domain.care_plan import CarePlan, Item, PainKind, Ref, Value
from services.plans.domain.ladder import Change, ease_after_gap
from services.plans.domain.pain_baseline import UsualPain, pain_baseline, tell_usual_pain, usual_pain
from services.plans.domain.pain_episode import PainReading, PainStep, follow_pain
from services.plans.domain.progression import Morning, Setting, follow_exercise
from services.plans.domain.rules import DAY_S, Library, Rule
from services.plans.domain.schedule import local_date
from shared.events.activity import ExerciseResult
from shared.events.vocabulary import Disposition, Exercise, PainContext
from shared.red_flags import BLOCKING, URGENCY

SESSION_BITS = 2**48 - 1
KIND_OF: dict[PainContext, PainKind] = {"now": "daily", "average-24h": "daily", "during-exercise": "exercise"}
"""Readings that count towards pain; what is `usual` is no reading, and the next morning belongs to a session."""


class Session(Value, frozen=True):
    event: Ref
    at_s: int
    session_id: int
    """The last 48 bits of the session's UUID."""
    plan_id: UUID | None
    pain: int
    pain_last_morning: int | None
    results: tuple[ExerciseResult, ...]
    disposition: Disposition
    chain: str | None = None
    """Correlation id of the event, if it came with one."""


class PainReport(Value, frozen=True):
    event: Ref
    at_s: int
    score: int
    context: PainContext
    disposition: Disposition


class Taken(Value, frozen=True):
    """The plan after an event, and what there is to tell."""

    plan: CarePlan
    changes: tuple[Change, ...] = ()
    review: Rule | None = None
    """A review by the physical therapist is asked for by this rule."""
    pain: PainStep | None = None
    usual: UsualPain | None = None
    milestones: tuple[str, ...] = ()
    refused: str | None = None
    """Why the event is not taken; the plan is then as before, but for a red flag that came with it."""


def take_session(*, plan: CarePlan, session: Session, library: Library) -> Taken:
    """A completed session. One that is older than a session already taken counts, and moves nothing."""
    refused = _refusal(plan=plan, session=session)
    if refused == "session-already-taken":  # since then a visit may have cleared its red flag
        return Taken(plan=plan, refused=refused)
    plan = _flag(plan=plan, disposition=session.disposition, event=session.event, at_s=session.at_s)
    if refused:
        return Taken(plan=plan, refused=refused)
    before = plan.adherence.last_session_s
    late = before is not None and session.at_s < before
    pain = follow_pain(
        level=plan.pain,
        reading=PainReading(at_s=session.at_s, score=session.pain, kind="exercise", event=session.event),
        red_flag=session.disposition in BLOCKING,
        rules=library.pain,
    )
    adherence = count_session(
        plan=plan, at_s=session.at_s, session_id=session.session_id, event=session.event, chain=session.chain
    )
    items, changes, review = (
        _progress(plan=plan, session=session, baseline=pain.baseline, library=library)
        if not late
        else (plan.items, [], None)
    )
    after = replace(
        plan,
        items=items,
        pain=pain.level,
        adherence=adherence,
        stepped_back_for_gap=late and plan.stepped_back_for_gap,
    )
    plan, usual = tell_usual_pain(plan=after, rules=library.pain)
    milestones = reach_milestones(plan=plan, rule=library.engagement.milestones, baseline=library.pain.baseline)
    if milestones:
        plan = replace(plan, adherence=replace(adherence, milestones=(*adherence.milestones, *milestones)))
    return _asked(
        plan=plan,
        at_s=session.at_s,
        changes=changes,
        review=pain.review or review,
        pain=pain,
        usual=usual,
        milestones=milestones,
    )


def take_pain_report(*, plan: CarePlan, report: PainReport, library: Library) -> Taken:
    """Pain reported outside a session: a reading, or the answer about the morning after the last session."""
    plan = _flag(plan=plan, disposition=report.disposition, event=report.event, at_s=report.at_s)
    if plan.status == "ended":
        return Taken(plan=plan, refused="care-ended")
    kind = KIND_OF.get(report.context)
    if kind is not None:
        pain = follow_pain(
            level=plan.pain,
            reading=PainReading(at_s=report.at_s, score=report.score, kind=kind, event=report.event),
            red_flag=report.disposition in BLOCKING,
            rules=library.pain,
        )
        plan, usual = tell_usual_pain(plan=replace(plan, pain=pain.level), rules=library.pain)
        return _asked(plan=plan, at_s=report.at_s, changes=[], review=pain.review, pain=pain, usual=usual)
    if report.context != "next-morning" or not _is_next_morning(plan=plan, at_s=report.at_s):
        return Taken(plan=plan)
    items, changes = _follow_items(
        plan=plan,
        results={},
        pain=0,
        score=report.score,
        at_s=report.at_s,
        event=report.event,
        baseline=usual_pain(level=plan.pain, rule=library.pain.baseline),
        library=library,
    )
    return _asked(plan=replace(plan, items=items), at_s=report.at_s, changes=changes, review=None)


def _refusal(*, plan: CarePlan, session: Session) -> str | None:
    if plan.status == "ended":
        return "care-ended"
    if session.plan_id is not None and session.plan_id != plan.plan_id:
        return "not-the-members-plan"
    if session.session_id in plan.adherence.recent_sessions:
        return "session-already-taken"
    return None


def _flag(*, plan: CarePlan, disposition: Disposition, event: Ref, at_s: int) -> CarePlan:
    """A blocking red flag stays with the plan, the most urgent one and the time of the newest, until a clinician clears
    it. So with one that ended or that came after the event's: that a member is enrolled again may be known here later
    than what they report (`keep_red_flag`)."""
    if disposition not in BLOCKING:
        return plan
    safety, newest_s = plan.safety, max(at_s, plan.safety_s or at_s)
    if safety is None or URGENCY.index(safety[0]) < URGENCY.index(disposition):
        safety = (disposition, event)
    return replace(plan, safety=safety, safety_s=newest_s)


def _progress(
    *, plan: CarePlan, session: Session, baseline: float, library: Library
) -> tuple[tuple[Item, ...], list[Change], Rule | None]:
    """Its items after a session, what moved them, and the rule that asks for a review."""
    rules = library.progression
    last_s = plan.adherence.last_session_s
    gap_s = session.at_s - last_s if last_s is not None else 0
    if gap_s >= rules.gap.days * DAY_S:
        review = rules.gap_review if gap_s >= rules.gap_review.days * DAY_S else None
        if not plan.stepped_back_for_gap:
            eased = ease_after_gap(
                items=plan.items, exercises=library.exercises, rule=rules.gap, gap_s=gap_s, evidence=(session.event,)
            )
            return *eased, review
        if review is not None:
            return plan.items, [], review
    results = {result.exercise: result for result in session.results}
    items, changes = _follow_items(
        plan=plan,
        results=results,
        pain=session.pain,
        score=session.pain_last_morning,
        at_s=session.at_s,
        event=session.event,
        baseline=baseline,
        library=library,
    )
    return items, changes, None


def _follow_items(
    *,
    plan: CarePlan,
    results: dict[Exercise, ExerciseResult],
    pain: int,
    score: int | None,
    at_s: int,
    event: Ref,
    baseline: float,
    library: Library,
) -> tuple[tuple[Item, ...], list[Change]]:
    """`baseline`: usual pain during exercise."""
    rule, exercises, rules = library.pain.baseline, library.exercises, library.progression
    enough_daily = len(plan.pain.daily) >= rule.readings_min
    morning = Morning(
        score=score,
        baseline=pain_baseline(level=plan.pain, kind="daily", rule=rule) if enough_daily else baseline,
        session=plan.adherence.last_session,
    )
    setting = Setting(
        at_s=at_s,
        event=event,
        baseline=baseline,
        post_surgical=plan.post_surgical,
        may_progress=plan.safety is None and plan.review != rules.gap_review.id,
    )
    items: list[Item] = []
    changes: list[Change] = []
    for item in plan.items:
        after, change = follow_exercise(
            item=item,
            result=results.get(item.exercise),
            pain=pain,
            morning=morning,
            setting=setting,
            exercise=exercises[item.exercise],
            rules=rules,
        )
        items.append(after)
        if change is not None:
            changes.append(change)
    return tuple(items), changes


def _is_next_morning(*, plan: CarePlan, at_s: int) -> bool:
    last_s = plan.adherence.last_session_s
    if last_s is None:
        return False
    zone = plan.week.time_zone
    return local_date(at_s=at_s, time_zone=zone) == local_date(at_s=last_s, time_zone=zone) + timedelta(days=1)


def _asked(
    *,
    plan: CarePlan,
    at_s: int,
    changes: list[Change],
    review: Rule | None,
    pain: PainStep | None = None,
    usual: UsualPain | None = None,
    milestones: tuple[str, ...] = (),
) -> Taken:
    """With the review noted, and one version more where there is a revision to tell."""
    if review is not None:
        plan = replace(plan, review=review.id, review_s=max(at_s, plan.review_s or at_s))
    if plan.version > 0 and (changes or review is not None):
        plan = replace(plan, version=plan.version + 1)
    else:
        changes, review = [], None
    return Taken(plan=plan, changes=tuple(changes), review=review, pain=pain, usual=usual, milestones=milestones)
