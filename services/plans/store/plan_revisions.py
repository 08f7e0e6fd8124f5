"""Every version of a plan as it was told. Written once, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.database import Connection
from shared.events.plans import PlanIssuedData, PlanRevisedData
from shared.outcomes import Write

SAVE = """
insert into plan_revisions (plan_id, version, member_id, decided_at, event, data)
select plan_id, version, member_id, decided_at, event, data::jsonb
from unnest($1::uuid[], $2::int[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
    as r(plan_id, version, member_id, decided_at, event, data)
"""

FIND = """
select version, decided_at, event, data from plan_revisions
where member_id = $1 and plan_id = $2 order by version desc limit $3
"""

# The items of a plan that was issued start by the decision that issued it.
FIND_ITEM_DECISIONS = """
select distinct on (exercise) exercise, action, decision from (
    select version, change ->> 'exercise' as exercise, change ->> 'action' as action, change -> 'decision' as decision
    from plan_revisions, jsonb_array_elements(data -> 'changes') as change
    where plan_id = $1 and event = 'plan.revised' and change ->> 'action' <> 'propose'
    union all
    select version, item ->> 'exercise', 'start', data -> 'decision'
    from plan_revisions, jsonb_array_elements(data -> 'items') as item
    where plan_id = $1 and event = 'plan.issued'
) as moves order by exercise, version desc
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRevision:
    """One version of a plan as it was published."""

    member_id: UUID
    decided_at: datetime
    data: PlanIssuedData | PlanRevisedData


def saving_plan_revisions(revisions: Sequence[PlanRevision]) -> Write | None:
    """Add versions; one that exists raises: a version is told once."""
    if not revisions:
        return None
    return Write(
        SAVE,
        [
            [one.data.plan_id for one in revisions],
            [one.data.version for one in revisions],
            [one.member_id for one in revisions],
            [one.decided_at for one in revisions],
            ["plan.issued" if isinstance(one.data, PlanIssuedData) else "plan.revised" for one in revisions],
            [one.data.model_dump_json(exclude_none=True) for one in revisions],
        ],
    )


async def find_plan_revisions(
    connection: Connection, *, member_id: UUID, plan_id: UUID, limit: int
) -> list[dict[str, Any]]:
    """The last versions of a plan, newest first: version, decided_at, event, data."""
    return [dict(row) for row in await connection.fetch(FIND, member_id, plan_id, limit)]


async def find_item_decisions(connection: Connection, *, plan_id: UUID) -> dict[str, tuple[str, dict[str, Any]]]:
    """For each exercise that ever moved: what was done to it last, and that decision. Proposals moved nothing."""
    rows = await connection.fetch(FIND_ITEM_DECISIONS, plan_id)
    return {row["exercise"]: (row["action"], row["decision"]) for row in rows}
