"""Given a database whose clock was ahead and has been put right, when events are published, then they go out."""

from uuid import uuid4

from shared.database import open_database
from shared.events.codec import encode
from shared.migrating import migrate
from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of
from shared.settings import ServiceSettings
from shared.writing import write
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory
from tests.shared.delivery.probe import ACTIVITY, pain
from tests.shared.delivery.relaying import relaying

LEFT = "insert into delivery.relay_lease values (true, gen_random_uuid(), clock_timestamp() + interval '2 hours')"
"""By a process that was killed while the clock was two hours ahead (a machine that boots in local time, say)."""


async def test_a_lease_that_was_taken_while_the_clock_was_ahead_holds_up_nothing(
    servers: RunningServers, namespace: str, database: DatabaseFactory, topics: TopicFactory
) -> None:
    await topics(ACTIVITY, partitions=3)
    url = await database(None)
    await migrate(url, service="probe")
    settings = ServiceSettings(database_url=url, kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, port=0)
    pool = await open_database(url, connections=6, application="test")
    member = uuid4()
    row = OutboxRow(ACTIVITY, member, encode(pain(member, 1)), key_of(member).hash)
    await write(pool, [inserting_rows([row], urgent=True)])
    await pool.execute(LEFT)

    async def is_out() -> bool:
        return bool(await pool.fetchval("select count(*) = 0 from delivery.outbox"))

    try:
        async with relaying(settings, pool):
            await eventually(is_out, within=20, what="the red flag is handed over")
    finally:
        await pool.close()
