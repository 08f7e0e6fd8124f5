"""How far a group is behind, where what lies behind its position is no record, or a log is not what it was."""

from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.lag import LogEnds
from shared.settings import ServiceSettings
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.fixtures.topics import TopicFactory, admin_client
from tests.shared.delivery.operating import readers
from tests.shared.delivery.probe import ACTIVITY

GROUP = "probe.activity"


async def take_back(servers: RunningServers, topic: str, records: int) -> None:
    """Publish so many records and say that none of them counts."""
    producer = AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap, transactional_id=topic)
    await producer.start()
    try:
        await producer.begin_transaction()
        for _ in range(records):
            await producer.send_and_wait(topic, b"{}")
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_what_was_found_in_a_log_says_nothing_of_a_shorter_one(
    servers: RunningServers, topics: TopicFactory, namespace: str, publish: Publish
) -> None:
    """Given a log that holds no record, and its topic made anew, when there are records before its old end, then they
    are told as not taken: nobody would know that a group stands still."""
    settings = ServiceSettings(
        database_url="postgresql://not.used", kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, port=0
    )
    await topics(ACTIVITY, partitions=1)
    topic, ends = topic_name(namespace, ACTIVITY), LogEnds(settings)

    async def behind_by(records: int) -> bool:
        found = -1
        with suppress(KafkaError):  # while the topic is being made anew
            found = await ends.behind({}, [readers()[GROUP].subscription])
        assert found == records
        return True

    try:
        await take_back(servers, topic, 9)
        await eventually(lambda: behind_by(0), within=20)
        async with admin_client(servers.kafka_bootstrap) as admin:
            await admin.delete_topics([topic])

            async def is_gone() -> bool:
                return topic not in await admin.list_topics()

            await eventually(is_gone, within=20)
        await topics(ACTIVITY, partitions=1)
        for _ in range(2):
            await publish.raw(ACTIVITY, b"{}", key=None)
        await eventually(lambda: behind_by(2), within=20)
    finally:
        await ends.close()
