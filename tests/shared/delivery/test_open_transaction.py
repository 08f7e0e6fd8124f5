"""Given a Kafka transaction that nobody ends, when a red flag lies behind it in the log, then somebody is told; it is
raised as soon as the transaction is over."""

from uuid import uuid4

from aiokafka import AIOKafkaProducer

from shared.events.codec import encode
from shared.topics import topic_name
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Consume, Publish, RunningService, member_key
from tests.shared.delivery.conftest import RED_FLAG, neighbour_of
from tests.shared.delivery.probe import ACTIVITY, pain


async def test_what_an_open_transaction_holds_up_is_told(
    probe: RunningService, publish: Publish, consume: Consume, servers: RunningServers, namespace: str
) -> None:
    await probe.settled()
    member = uuid4()
    producer = AIOKafkaProducer(
        bootstrap_servers=servers.kafka_bootstrap, transactional_id=str(uuid4()), transaction_timeout_ms=60_000
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic_name(namespace, ACTIVITY), encode(pain(member, 1)), key=member_key(member))
        await publish(ACTIVITY, pain(neighbour_of(member), 1, findings=RED_FLAG))

        async def told() -> bool:
            answer = await probe.client.get("/health/ready")
            assert "probe.safety: polling brings nothing of 1 partitions" in answer.text, answer.text
            return answer.status_code == 503

        await eventually(told, within=60)
    finally:
        await producer.abort_transaction()
        await producer.stop()
    await consume("careloop.plans", count=1, within=30)
