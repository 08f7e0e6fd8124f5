"""Many timers that are due at the same moment: the reminders of an evening."""

from datetime import UTC, datetime
from uuid import UUID

from shared.database import open_database
from shared.migrating import migrate
from shared.outcomes import Cause, Timer
from shared.suspect_timers import Turn
from shared.timers import claim_timers, save_timers
from tests.fixtures.databases import DatabaseFactory

NOW = datetime(2026, 1, 1, 18, tzinfo=UTC)
CAUSE = Cause(source="urn:test", id="cause", chain="chain")
MANY, TAKEN = 8_000, 500
ROWS_READ = """
select (seq_tup_read + idx_tup_fetch)::bigint from pg_stat_user_tables
where schemaname = 'delivery' and relname = 'timers'
"""


async def test_who_takes_the_first_of_many_that_are_due_at_once_does_not_read_them_all(
    database: DatabaseFactory,
) -> None:
    """Given thousands due at the same moment, when some are claimed, then those are the first by their key, and hardly
    more were read than were taken."""
    url = await database(None)
    await migrate(url, service="probe")
    pool = await open_database(url, connections=2, application="test")
    timers = [
        Timer(kind="probe", key=f"{number:05}", member_id=UUID(int=number + 1), due_at=NOW, cause=CAUSE)
        for number in reversed(range(MANY))
    ]
    async with pool.acquire() as connection:
        await save_timers(connection, timers)
        await connection.execute("vacuum analyze delivery.timers")

        async def rows_read() -> int:
            await connection.execute("select pg_stat_force_next_flush()")
            return int(await connection.fetchval(ROWS_READ))

        before = await rows_read()
        async with connection.transaction():
            claimed = await claim_timers(connection, kinds=["probe"], now=NOW, turn=Turn())
        read = await rows_read() - before
    await pool.close()
    assert [one.timer.key for one in claimed] == [f"{number:05}" for number in range(TAKEN)]
    assert TAKEN <= read <= 6 * TAKEN
