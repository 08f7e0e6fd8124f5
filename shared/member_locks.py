"""One lock per member and service: whoever decides something about a member holds it."""

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from shared.database import Connection

# A conflicting row is locked even though the condition never lets the update happen: one statement inserts what is
# missing and locks the rest, in key order, so that two writers never wait for each other in a circle.
LOCK_MEMBERS = """
insert into delivery.member_locks (member_id)
select member_id from unnest({wanted}) as wanted(member_id) {condition} order by member_id
on conflict (member_id) do update set member_id = excluded.member_id where false
"""
LOCK_THESE = LOCK_MEMBERS.format(wanted="$1::uuid[]", condition="")

# In the order asked for: who never waits cannot wait in a circle.
CLAIM_MEMBERS = """
select l.member_id
from unnest($1::uuid[]) with ordinality as wanted(member_id, place) join delivery.member_locks l using (member_id)
order by wanted.place limit $2 for update of l skip locked
"""

FIND_MISSING = """
select member_id, current_setting('lock_timeout') as lock_timeout from unnest($1::uuid[]) as wanted(member_id)
where not exists (select from delivery.member_locks l where l.member_id = wanted.member_id)
"""

ADD_MEMBERS = """
insert into delivery.member_locks (member_id)
select member_id from unnest($1::uuid[]) as missing(member_id) order by member_id
on conflict do nothing returning member_id
"""

SET_LOCK_TIMEOUT = "select set_config('lock_timeout', $1, true)"

ADDING_WAITS = "50ms"
"""An insert knows no `skip locked`: it waits for whoever is just inserting the same member. So long at most."""


async def lock_members(connection: Connection, member_ids: Iterable[UUID]) -> None:
    """Lock these members until the transaction ends. Whatever is read must be read in a later statement."""
    wanted = list(set(member_ids))
    if wanted:
        await connection.execute(LOCK_THESE, wanted)


async def claim_members(connection: Connection, member_ids: Iterable[UUID], *, limit: int) -> set[UUID]:
    """Lock those of these members that nobody else holds, the first ones first, `limit` at most; which ones. A member
    whom nobody has locked before gets a row: a safety group sets timers without the lock."""
    wanted = list(dict.fromkeys(member_ids))
    claimed = {row["member_id"] for row in await connection.fetch(CLAIM_MEMBERS, wanted, limit)}
    if len(claimed) < min(limit, len(wanted)):
        missing = await connection.fetch(FIND_MISSING, [member for member in wanted if member not in claimed])
        if missing:
            new = [row["member_id"] for row in missing][: limit - len(claimed)]
            claimed |= await _add_members(connection, new, lock_timeout=missing[0]["lock_timeout"])
    return claimed


async def _add_members(connection: Connection, member_ids: list[UUID], *, lock_timeout: str) -> set[UUID]:
    try:
        async with connection.transaction():
            await connection.execute(SET_LOCK_TIMEOUT, ADDING_WAITS)
            added = await connection.fetch(ADD_MEMBERS, member_ids)
            await connection.execute(SET_LOCK_TIMEOUT, lock_timeout)
    except asyncpg.LockNotAvailableError:
        return set()
    return {row["member_id"] for row in added}
