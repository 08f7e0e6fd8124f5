"""What the Kafka client alone has seen is counted; everything else that a loop complains of is shown."""

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, ProducerClosed
from aiokafka.producer.transaction_manager import TransactionManager

from tests.chaos.complaints import Complaints
from tests.fixtures.eventually import eventually


@pytest.fixture
def client_log() -> Iterator[None]:
    """As it was before, for other tests."""
    log = logging.getLogger("aiokafka")
    propagate, handlers = log.propagate, log.handlers
    yield
    log.propagate, log.handlers = propagate, handlers


@pytest.fixture
async def complaints(client_log: None, caplog: pytest.LogCaptureFixture) -> Complaints:
    gc.collect()  # what producers of tests before have left is told now, by loops that are closed
    caplog.clear()
    made = Complaints()
    made.count()
    return made


async def test_what_the_client_logs_is_counted(complaints: Complaints, capfd: pytest.CaptureFixture[str]) -> None:
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert complaints.heard > 0
    assert capfd.readouterr() == ("", "")


async def test_what_goes_wrong_inside_the_client_is_counted(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(TransactionManager(None, 1).fatal_error, ProducerClosed())
    await eventually(lambda: complaints.heard == 1)
    forgotten = loop.create_future()
    forgotten.set_exception(ProducerClosed())
    del forgotten
    gc.collect()
    await eventually(lambda: complaints.heard == 2)
    assert not caplog.records


async def test_what_goes_wrong_in_ours_is_shown(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    async def publish() -> None:
        raise ProducerClosed

    def settle() -> None:
        raise KeyError("ours")

    asyncio.get_running_loop().call_soon(settle)
    forgotten = asyncio.create_task(publish())
    await asyncio.wait([forgotten])
    del forgotten
    gc.collect()
    await eventually(lambda: len(caplog.records) == 2)
    assert complaints.heard == 0
