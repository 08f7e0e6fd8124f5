"""The plan's values for a template: each exercise on its ladder, and why it stands there."""

from typing import Any, Final
from uuid import UUID

from services.messaging.pages.rendering import Page
from services.messaging.pages.wording import Wording
from services.messaging.store.pages_members import PlanChangeRow, load_plan, load_plan_changes
from shared.database import Connection

RUNGS_MIN: Final = 4
"""Rungs drawn at least. How long a ladder is, only the plans service knows; one above the highest seen is drawn."""


def dose_of(item: dict[str, Any], *, say: Wording) -> str:
    """Sets, repetitions and hold in one phrase, such as `3 × 10, hold 5 s`."""
    sets, reps, hold = item["sets"], item.get("reps"), item.get("hold_s")
    if reps and hold:
        return say("plan.dose.both", sets=sets, reps=reps, hold=hold)
    if hold:
        return say("plan.dose.hold", sets=sets, hold=hold)
    return say("plan.dose.reps", sets=sets, reps=reps or "–")


def direction_of(change: PlanChangeRow) -> str:
    if change.to_step == change.from_step:
        return "same"
    return "up" if change.to_step > change.from_step else "down"


def rungs_of(*, step: int, changes: list[PlanChangeRow]) -> int:
    """How many rungs to draw."""
    highest = max([step, *(c.from_step for c in changes), *(c.to_step for c in changes)])
    return max(RUNGS_MIN, highest + 2)


async def plan_values(connection: Connection, *, page: Page, member_id: UUID) -> dict[str, Any]:
    """`plan` (None before one is issued), its items with their last change, and all changes."""
    plan = await load_plan(connection, member_id=member_id)
    changes = await load_plan_changes(connection, member_id=member_id)
    if plan is None:
        return {"plan": None, "plan_items": [], "plan_changes": [], "plan_days": ""}
    items = []
    for item in plan.items:
        own = [change for change in changes if change.exercise == item["exercise"]]
        items.append(
            {
                **item,
                "dose": dose_of(item, say=page.say),
                "rungs": rungs_of(step=item["step"], changes=own),
                "change": own[0] if own else None,
                "direction": direction_of(own[0]) if own else "same",
            }
        )
    days = ", ".join(page.say(f"weekday.{n}") for n in plan.schedule["weekdays"])
    return {"plan": plan, "plan_items": items, "plan_changes": changes, "plan_days": days}
