"""A care plan as bytes: JSON arrays in a fixed order, the number of the layout first.

Read and written for every event, so it is neither validated nor named. A new member is added at the end of its array
with a new layout number; `unpack_plan` reads every layout that was ever written. References to events repeat across
the exercises of a plan, so each is written once and named by its place.
"""

from typing import Any
from uuid import UUID

import orjson

from services.plans.domain.care_plan import Adherence, CarePlan, Episode, Item, Lapse, PainLevel, Ref, Week
from shared.database import FromNextRelease

LAYOUT = 2


def pack_plan(plan: CarePlan) -> bytes:
    places: dict[Ref, int] = {}
    pain, adherence, safety = plan.pain, plan.adherence, plan.safety
    items = [
        (*item[:7], [_place(ref, places) for ref in item.good], *item[8:]) if item.good else tuple(item)
        for item in plan.items
    ]
    last_session = adherence.last_session
    return orjson.dumps(
        (
            LAYOUT,
            plan.pathway,
            tuple(plan.week),
            items,
            plan.intake_usual,
            (*pain[:6], _pack_episode(pain.episode), pain.told),
            plan.started_s,
            (
                adherence.sessions,
                adherence.last_session_s,
                None if last_session is None else _place(last_session, places),
                *adherence[3:],
            ),
            None if safety is None else (safety[0], _place(safety[1], places)),
            plan.review,
            plan.stepped_back_for_gap,
            None if plan.lapse is None else tuple(plan.lapse),
            plan.lapse_timer_s,
            list(places),
        )
    )


def unpack_plan(state: bytes, *, member_id: UUID, plan_id: UUID, version: int, status: Any) -> CarePlan:
    """The plan of a row. FromNextRelease for a layout that this version does not know: no event's fault."""
    values = orjson.loads(state)
    layout = values[0]
    if not 1 <= layout <= LAYOUT:
        raise FromNextRelease(f"a care plan in layout {layout}; this version reads 1 to {LAYOUT}")
    refs: list[Ref] = [(source, identity) for source, identity in values[13]]
    pain, adherence, safety, lapse = values[5], values[7], values[8], values[11]
    return CarePlan(
        member_id=member_id,
        plan_id=plan_id,
        version=version,
        status=status,
        pathway=values[1],
        week=Week(tuple(values[2][0]), tuple(values[2][1]), values[2][2], values[2][3]),
        items=tuple([_unpack_item(item, refs) for item in values[3]]),
        intake_usual=values[4],
        pain=PainLevel(
            pain[0],
            tuple(pain[1]),
            tuple(pain[2]),
            _pair(pain[3]),
            _pair(pain[4]),
            pain[5],
            _unpack_episode(pain[6]),
            pain[7] if layout > 1 else None,
        ),
        started_s=values[6],
        adherence=Adherence(
            adherence[0],
            adherence[1],
            None if adherence[2] is None else refs[adherence[2]],
            adherence[3],
            adherence[4],
            adherence[5],
            tuple(adherence[6]),
            tuple(adherence[7]),
            adherence[8],
        ),
        safety=None if safety is None else (safety[0], refs[safety[1]]),
        review=values[9],
        stepped_back_for_gap=values[10],
        lapse=None if lapse is None else Lapse(*lapse),
        lapse_timer_s=values[12],
    )


def _place(ref: Ref, places: dict[Ref, int]) -> int:
    return places.setdefault(ref, len(places))


def _unpack_item(values: list[Any], refs: list[Ref]) -> Item:
    values[7] = tuple([refs[place] for place in values[7]]) if values[7] else ()
    return Item._make(values)


def _pack_episode(episode: Episode | None) -> tuple[Any, ...] | None:
    return None if episode is None else (str(episode.id), *episode[1:])


def _unpack_episode(values: list[Any] | None) -> Episode | None:
    if values is None:
        return None
    recent = tuple([(kind, score) for kind, score in values[10]])
    return Episode._make((UUID(values[0]), *values[1:10], recent, *values[11:]))


def _pair(values: list[Any] | None) -> tuple[int, float] | None:
    return None if values is None else (values[0], values[1])
