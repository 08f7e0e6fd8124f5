"""How far a group is behind, where what lies behind its position is no record, or a log is not what it was."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from operator import attrgetter

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from shared.lag import LogEnds, Looked, Unread
from shared.settings import ServiceSettings
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish
from tests.fixtures.topics import TopicFactory, admin_client, remake_topic
from tests.shared.delivery.books import GROUP, JOINING
from tests.shared.delivery.operating import readers
from tests.shared.delivery.probe import ACTIVITY, MEMBERS


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


@pytest.fixture
async def ends(servers: RunningServers, namespace: str) -> AsyncIterator[LogEnds]:
    opened = LogEnds(
        ServiceSettings(
            database_url="postgresql://not.used", kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, port=0
        )
    )
    yield opened
    await opened.close()


async def behind_by(ends: LogEnds, records: int, *, position: int = 0) -> bool:
    found, here = -1, {(GROUP, ACTIVITY, 0): position}
    with suppress(KafkaError):  # while the topic is being made anew
        found = sum(one.records for one in (await ends.find_unread(here, [readers()[GROUP].subscription])).values())
    assert found == records
    return True


async def delete(servers: RunningServers, namespace: str, ends: LogEnds, topic: str) -> None:
    """Until the client, too, knows that it has gone."""
    name = topic_name(namespace, topic)
    async with admin_client(servers.kafka_bootstrap) as admin:
        await admin.delete_topics([name])

    async def is_missed() -> bool:
        # The client asks for the ends for long, and meanwhile which topics there are.
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(2):
                await ends.find_unread({}, [one.subscription for one in readers().values()])
        assert ends._consumer
        return not ends._consumer.partitions_for_topic(name)

    await eventually(is_missed, within=30)


async def test_what_was_found_in_a_log_says_nothing_of_a_shorter_one(
    servers: RunningServers, topics: TopicFactory, namespace: str, publish: Publish, ends: LogEnds
) -> None:
    """Given a log that holds no record, and its topic made anew, when there are records before its old end, then they
    are told as not taken: nobody would know that a group stands still."""
    await topics(ACTIVITY, partitions=1)
    topic = topic_name(namespace, ACTIVITY)
    await take_back(servers, topic, 9)
    await eventually(lambda: behind_by(ends, 0), within=20)
    await remake_topic(servers.kafka_bootstrap, topic, partitions=1)
    for _ in range(2):
        await publish.raw(ACTIVITY, b"{}", key=None)
    await eventually(lambda: behind_by(ends, 2), within=30)


@pytest.mark.parametrize("part", ["_fetcher._fetch_task", "_client._sync_task"])
async def test_a_client_that_reads_nothing_any_more_is_followed_by_another(
    servers: RunningServers, topics: TopicFactory, namespace: str, ends: LogEnds, part: str
) -> None:
    """Given one of which a task has ended for good, as after an error that it does not expect, then it is told what is
    unread: it says nothing of those that read, so that nobody would start the process again."""
    await topics(ACTIVITY, partitions=1)
    await eventually(lambda: behind_by(ends, 0), within=20)
    first = ends._consumer
    task = attrgetter(part)(first)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    await take_back(servers, topic_name(namespace, ACTIVITY), 2)
    await eventually(lambda: behind_by(ends, 0), within=20)
    assert ends._consumer is not first


async def test_what_was_found_behind_a_position_says_nothing_of_what_lies_before_it(
    servers: RunningServers, topics: TopicFactory, namespace: str, publish: Publish, ends: LogEnds
) -> None:
    """Given a group behind which there is no record, when an operator sets it back, then what it has to take again is
    told: nothing is settled before that."""
    await topics(ACTIVITY, partitions=1)
    for _ in range(2):
        await publish.raw(ACTIVITY, b"{}", key=None)
    await take_back(servers, topic_name(namespace, ACTIVITY), 1)
    await eventually(lambda: behind_by(ends, 0, position=2), within=20)
    await eventually(lambda: behind_by(ends, 4), within=20)


async def test_of_a_topic_that_is_not_there_nobody_says_that_all_was_taken(
    servers: RunningServers, topics: TopicFactory, namespace: str, publish: Publish, ends: LogEnds
) -> None:
    """When it is there again, what is in it is told soon."""
    await topics(ACTIVITY, partitions=1)
    await eventually(lambda: behind_by(ends, 0), within=20)
    await delete(servers, namespace, ends, ACTIVITY)
    with pytest.raises(UnknownTopicOrPartitionError):
        await ends.find_unread({}, [readers()[GROUP].subscription])
    await topics(ACTIVITY, partitions=1)
    await publish.raw(ACTIVITY, b"{}", key=None)
    await eventually(lambda: behind_by(ends, 1), within=30)


async def test_who_asks_again_and_again_reads_no_log_that_moves(
    topics: TopicFactory, publish: Publish, ends: LogEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure that is told every few seconds costs no reading where all goes well."""
    await topics(ACTIVITY, partitions=1)
    looks: list[Looked] = []

    async def look(_: LogEnds, __: object, ___: object, looked: Looked) -> None:
        looks.append(looked)

    monkeypatch.setattr(LogEnds, "_look", look)
    for records in (1, 2):
        await publish.raw(ACTIVITY, b"{}", key=None)
        (unread,) = (await ends.find_unread({}, [readers()[GROUP].subscription], at_once=False)).values()
        assert (unread.records, looks) == (records, [])
    await ends.find_unread({}, [readers()[GROUP].subscription], at_once=False)
    assert len(looks) == 1


async def test_a_topic_that_is_not_there_hides_nothing_of_the_others(
    servers: RunningServers, topics: TopicFactory, namespace: str, publish: Publish, ends: LogEnds
) -> None:
    """Given that nobody tells where one log ends, then what is unread of the others is told, and of that one that it is
    not known: an alarm rests on it."""
    several = [readers()[group].subscription for group in (GROUP, JOINING)]
    for topic in (ACTIVITY, MEMBERS):
        await topics(topic, partitions=1)
    await publish.raw(ACTIVITY, b"{}", key=None)
    assert await ends.find_unread({}, several) == {(GROUP, ACTIVITY, 0): Unread(0, 1)}
    await delete(servers, namespace, ends, MEMBERS)
    with pytest.raises(UnknownTopicOrPartitionError):
        await ends.find_unread({}, several)
    told = {(GROUP, ACTIVITY, 0): Unread(0, 1), (JOINING, MEMBERS, 0): Unread(0, None)}
    assert await ends.find_unread({}, several, at_once=False) == told
