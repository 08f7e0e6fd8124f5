"""The roster as it stands: who is covered from when to when."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from services.enrollment.domain.coverage import Coverage
from shared.database import Connection

LOAD = """
select c.sponsor_id, c.person_id, c.date_of_birth, c.state, c.effective_from, c.effective_to
from coverages c join unnest($1::uuid[], $2::text[]) as w(sponsor_id, person_id)
    on c.sponsor_id = w.sponsor_id and c.person_id = w.person_id
"""


LOCK = """
select from coverages c join unnest($1::uuid[], $2::text[]) as w(sponsor_id, person_id)
    on c.sponsor_id = w.sponsor_id and c.person_id = w.person_id
order by c.sponsor_id, c.person_id for share of c
"""


async def lock_coverages(connection: Connection, *, persons: Sequence[tuple[UUID, str]]) -> None:
    """No file changes the coverage of these persons until the transaction ends. An enrolment takes this before it
    reads, so that a file under way either shows it the end or finds the new member."""
    await connection.execute(LOCK, [sponsor for sponsor, _ in persons], [person for _, person in persons])


async def load_coverages(
    connection: Connection, *, persons: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], Coverage]:
    """Coverage of each (sponsor, person) that a roster has ever named."""
    rows = await connection.fetch(LOAD, [sponsor for sponsor, _ in persons], [person for _, person in persons])
    return {(row["sponsor_id"], row["person_id"]): _coverage(row) for row in rows}


def _coverage(row: asyncpg.Record) -> Coverage:
    return Coverage(
        sponsor_id=row["sponsor_id"],
        person_id=row["person_id"],
        date_of_birth=row["date_of_birth"],
        state=row["state"],
        effective_from=row["effective_from"],
        effective_to=row["effective_to"],
    )
