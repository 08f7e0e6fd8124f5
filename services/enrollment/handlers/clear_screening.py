"""A clinician has looked at what blocked someone and lets them go on to a new intake."""

from datetime import datetime, timedelta
from uuid import UUID

from services.enrollment.domain.intake import IntakeRules
from services.enrollment.domain.membership import clear
from services.enrollment.store.intakes import load_intakes, save_clearance
from services.enrollment.store.memberships import load_memberships, save_memberships
from shared.database import Connection
from shared.outcomes import Outcomes, Refusal


async def clear_screening(
    connection: Connection,
    *,
    member_id: UUID,
    clearance_id: UUID,
    cleared_by: UUID,
    reason: str,
    rules: IntakeRules,
    now: datetime,
) -> Outcomes | Refusal:
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return Refusal("not-found", "No such member.")
    cleared = clear(membership=membership, now=now)
    if isinstance(cleared, Refusal):
        return cleared
    intake = (await load_intakes(connection, memberships=[membership]))[member_id]
    await save_clearance(
        connection,
        clearance_id=clearance_id,
        intake=intake,
        cleared_by=cleared_by,
        reason=reason,
        now=now,
        expires_at=now + timedelta(days=rules.clearance_days),
    )
    await save_memberships(connection, [cleared])
    return Outcomes()
