"""Care plans, one row a member."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final
from uuid import UUID

from services.plans.domain.care_plan import CarePlan
from services.plans.store.lapse_timers import saving_lapse_timers
from services.plans.store.packing import pack_plan, unpack_plan
from services.plans.store.plan_revisions import PlanRevision, saving_plan_revisions
from shared.database import Connection
from shared.outcomes import Cause, Write

NO_TIMERS: Final[Mapping[UUID, tuple[int | None, Cause]]] = MappingProxyType({})

LOAD = "select member_id, plan_id, version, status, state from care_plans where member_id = any($1::uuid[])"

# A state a line, as the outbox takes its values.
SAVE = """
insert into care_plans (member_id, plan_id, version, status, state)
select member_id, plan_id, version, status, convert_to(state, 'UTF8')
from rows from (
    unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[]), string_to_table(convert_from($5, 'UTF8'), E'\\n')
) as p(member_id, plan_id, version, status, state)
on conflict (member_id) do update set plan_id = excluded.plan_id, version = excluded.version,
    status = excluded.status, state = excluded.state
"""


async def load_care_plans(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, CarePlan]:
    """The plans of these members; who has none is missing."""
    rows = await connection.fetch(LOAD, list(member_ids))
    return {
        row["member_id"]: unpack_plan(
            row["state"],
            member_id=row["member_id"],
            plan_id=row["plan_id"],
            version=row["version"],
            status=row["status"],
        )
        for row in rows
    }


def saving_care_plans(
    *,
    plans: Iterable[CarePlan],
    revisions: Sequence[PlanRevision] = (),
    timers: Mapping[UUID, tuple[int | None, Cause]] = NO_TIMERS,
) -> list[Write | None]:
    """Save plans, each member at most once, with their versions as they were told and their lapse timers. The caller
    holds the members' locks."""
    chosen = list(plans)
    columns = [
        [plan.member_id for plan in chosen],
        [plan.plan_id for plan in chosen],
        [plan.version for plan in chosen],
        [plan.status for plan in chosen],
        b"\n".join([pack_plan(plan) for plan in chosen]),
    ]
    saving = Write(SAVE, columns) if chosen else None
    return [saving, saving_plan_revisions(revisions), *saving_lapse_timers(timers)]
