"""A care plan as bytes: JSON arrays in a fixed order, the number of the layout first.

Read and written for every event, so it is neither validated nor named. A new member is added at the end of its array
with a new layout number; `unpack_plan` reads every layout that was ever written.
"""

from typing import Any
from uuid import UUID

import orjson

from services.plans.domain.care_plan import Adherence, CarePlan, Episode, Item, PainLevel, Reason, Week

LAYOUT = 1


def pack_plan(plan: CarePlan) -> bytes:
    week, adherence = plan.week, plan.adherence
    return orjson.dumps(
        (
            LAYOUT,
            plan.pathway,
            (week.weekdays, week.strength_weekdays, week.local_time, week.time_zone),
            [_pack_item(item) for item in plan.items],
            plan.intake_usual,
            _pack_pain(plan.pain),
            plan.started_s,
            (
                adherence.sessions,
                adherence.last_session_s,
                adherence.last_session,
                adherence.week,
                adherence.week_sessions,
                adherence.streak_weeks,
                adherence.milestones,
                adherence.recent_sessions,
            ),
            plan.safety,
            plan.review,
            plan.stepped_back_for_gap,
        )
    )


def unpack_plan(state: bytes, *, member_id: UUID, plan_id: UUID, version: int, status: Any) -> CarePlan:
    """The plan of a row. ValueError for a layout that this version does not know."""
    layout, *values = orjson.loads(state)
    if layout != LAYOUT:
        raise ValueError(f"a care plan in layout {layout}; this version reads {LAYOUT}")
    pathway, week, items, intake_usual, pain, started_s, adherence, safety, review, stepped_back = values
    return CarePlan(
        member_id=member_id,
        plan_id=plan_id,
        version=version,
        status=status,
        pathway=pathway,
        week=Week(weekdays=tuple(week[0]), strength_weekdays=tuple(week[1]), local_time=week[2], time_zone=week[3]),
        items=tuple([_unpack_item(item) for item in items]),
        intake_usual=intake_usual,
        pain=_unpack_pain(pain),
        started_s=started_s,
        adherence=Adherence(
            sessions=adherence[0],
            last_session_s=adherence[1],
            last_session=_ref(adherence[2]),
            week=adherence[3],
            week_sessions=adherence[4],
            streak_weeks=adherence[5],
            milestones=tuple(adherence[6]),
            recent_sessions=tuple(adherence[7]),
        ),
        safety=(safety[0], (safety[1][0], safety[1][1])) if safety else None,
        review=review,
        stepped_back_for_gap=stepped_back,
    )


def _pack_item(item: Item) -> tuple[Any, ...]:
    reason = item.reason
    return (
        item.exercise, item.step, item.sets, item.reps, item.hold_s, item.days_per_week,
        (reason.action, reason.rule_id, reason.rule_version, reason.says, reason.evidence),
        item.locked, item.good, item.incomplete, item.last_sign, item.progressed_s, item.proposed_s,
    )  # fmt: skip


def _unpack_item(values: list[Any]) -> Item:
    reason = values[6]
    return Item(
        exercise=values[0],
        step=values[1],
        sets=values[2],
        reps=values[3],
        hold_s=values[4],
        days_per_week=values[5],
        reason=Reason(
            action=reason[0], rule_id=reason[1], rule_version=reason[2], says=reason[3], evidence=_refs(reason[4])
        ),
        locked=values[7],
        good=_refs(values[8]),
        incomplete=values[9],
        last_sign=values[10],
        progressed_s=values[11],
        proposed_s=values[12],
    )


def _pack_pain(pain: PainLevel) -> tuple[Any, ...]:
    episode = pain.episode
    return (
        pain.usual, pain.exercise, pain.daily, pain.last_exercise, pain.last_daily, pain.latest_s,
        None if episode is None else (
            str(episode.id), episode.opened_s, episode.alert_s, episode.alert_score, episode.first_ten_s,
            episode.alerted_at_ceiling, episode.quiet, episode.open, episode.review_asked, episode.readings,
            episode.recent, episode.calm, episode.calm_since_s,
        ),
    )  # fmt: skip


def _unpack_pain(values: list[Any]) -> PainLevel:
    episode = values[6]
    return PainLevel(
        usual=values[0],
        exercise=tuple(values[1]),
        daily=tuple(values[2]),
        last_exercise=tuple(values[3]) if values[3] else None,
        last_daily=tuple(values[4]) if values[4] else None,
        latest_s=values[5],
        episode=None
        if episode is None
        else Episode(
            id=UUID(episode[0]),
            opened_s=episode[1],
            alert_s=episode[2],
            alert_score=episode[3],
            first_ten_s=episode[4],
            alerted_at_ceiling=episode[5],
            quiet=episode[6],
            open=episode[7],
            review_asked=episode[8],
            readings=episode[9],
            recent=tuple([(kind, score) for kind, score in episode[10]]),
            calm=episode[11],
            calm_since_s=episode[12],
        ),
    )


def _ref(values: list[str] | None) -> tuple[str, str] | None:
    return (values[0], values[1]) if values else None


def _refs(values: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple([(source, identity) for source, identity in values])
