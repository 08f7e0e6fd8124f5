"""One lock per member and service: whoever decides something about a member holds it."""

from collections.abc import Iterable
from uuid import UUID

from shared.database import Connection

# A conflicting row is locked even though the condition never lets the update happen: one statement inserts what is
# missing and locks the rest, in key order, so that two writers never wait for each other in a circle.
LOCK_MEMBERS = """
insert into delivery.member_locks (member_id)
select member_id from unnest($1::uuid[]) as wanted(member_id) order by member_id
on conflict (member_id) do update set member_id = excluded.member_id where false
"""

CLAIM_MEMBERS = """
select member_id from delivery.member_locks where member_id = any($1::uuid[]) order by member_id for update skip locked
"""


async def lock_members(connection: Connection, member_ids: Iterable[UUID]) -> None:
    """Lock these members until the transaction ends. Whatever is read must be read in a later statement."""
    wanted = sorted(set(member_ids))
    if wanted:
        await connection.execute(LOCK_MEMBERS, wanted)


async def claim_members(connection: Connection, member_ids: Iterable[UUID]) -> set[UUID]:
    """Lock those of these members that nobody else holds, without waiting; which ones. One with no row yet is not."""
    wanted = sorted(set(member_ids))
    return {row["member_id"] for row in await connection.fetch(CLAIM_MEMBERS, wanted)}
