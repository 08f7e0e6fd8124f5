"""What a member was told and will be told, for those who may know."""

from typing import Any
from uuid import UUID

from services.notifications.store.notifications import list_notifications
from services.notifications.store.recipients import load_memberships
from shared.database import Connection

LIMIT = 100


async def show_notifications(
    connection: Connection, *, member_id: UUID, asked_by: UUID | str, roles: frozenset[str]
) -> list[dict[str, Any]] | None:
    """Newest first, at most 100. None for whoever may not know: another member, a clinician of another care team, and
    who is on call once there is a team."""
    if not await _may_read(connection, member_id, asked_by, roles):
        return None
    return await list_notifications(connection, member_id=member_id, limit=LIMIT)


async def _may_read(connection: Connection, member_id: UUID, asked_by: UUID | str, roles: frozenset[str]) -> bool:
    if "operator" in roles:
        return True
    if "member" in roles:
        return asked_by == member_id
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return False
    if "oncall" in roles and membership.awaits_team:
        return True
    return asked_by in (membership.pt_id, membership.coach_id)
