"""A broker that was killed: its kernel resets every connection at once, while clients speak on them.

On uvloop, which services run on, a connection that has been reset refuses what is said on it with a RuntimeError, until
the client has noticed a moment later. aiokafka expects other errors there. Where the task gets it that asks which
broker leads what, it ended for good: nothing more was read until somebody started the process again.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

from shared import kafka
from shared.kafka import look_after_brokers
from tests.fixtures.eventually import eventually
from tests.fixtures.lines import Line, line_to
from tests.fixtures.servers import RunningServers

Scenario = Callable[[AIOKafkaClient, AIOKafkaConnection, Line], Awaitable[None]]


@pytest.fixture
def on_uvloop(servers: RunningServers) -> Callable[[Scenario], None]:
    """Runs a scenario with a client whose connection to its broker can be reset."""
    look_after_brokers()

    async def play(scenario: Scenario) -> None:
        async with client_on_line(servers) as (client, connection, line):
            await scenario(client, connection, line)

    return lambda scenario: uvloop.run(play(scenario))


@asynccontextmanager
async def client_on_line(servers: RunningServers) -> AsyncIterator[tuple[Any, Any, Line]]:
    host, port = servers.kafka_bootstrap.split(",")[0].rsplit(":", 1)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers.kafka_bootstrap)
    await consumer.start()
    client = consumer._client
    async with line_to(host, int(port)) as line:
        node = next(iter(client.cluster.brokers())).nodeId
        client.cluster._brokers = {node: BrokerMetadata(node, "127.0.0.1", line.port, None)}
        for connection in list(client._conns.values()):
            connection.close()
        connection = await client._get_conn(node)
        assert connection.port == line.port
        try:
            yield client, connection, line
        finally:
            await consumer.stop()


def test_what_is_said_on_a_connection_that_was_just_reset_fails_as_on_any_that_has_gone(
    on_uvloop: Callable[[Scenario], None],
) -> None:
    """Given somebody who asks at every moment, when the connection is reset, then all that fails says that the
    connection has gone; at one of these moments the loop itself refused to write."""

    async def scenario(client: AIOKafkaClient, connection: AIOKafkaConnection, line: Line) -> None:
        asked: list[asyncio.Future[object]] = []
        failed: list[Exception] = []
        line.reset()
        async with asyncio.timeout(20):
            while connection.connected():
                try:
                    asked.append(asyncio.ensure_future(connection.send(MetadataRequest([]))))
                except Exception as error:
                    failed.append(error)
                await asyncio.sleep(0)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {KafkaConnectionError}
        assert failed
        assert {type(error) for error in failed} == {KafkaConnectionError}
        assert any(isinstance(error.__cause__, RuntimeError) for error in failed)
        assert (await client.fetch_all_metadata()).brokers()  # on a new connection

    on_uvloop(scenario)


def test_a_question_that_fails_as_nobody_foresaw_is_asked_again(
    on_uvloop: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a client whose question for the brokers fails with an error that the client does not expect, then it asks
    again: whoever waits for the answer would wait for ever."""

    async def scenario(client: AIOKafkaClient, connection: AIOKafkaConnection, line: Line) -> None:
        ask = kafka._ask_known_brokers
        failures = [RuntimeError("the handler is closed"), KeyError(1)]

        async def fails(*question: Any) -> bool:
            if failures:
                raise failures.pop()
            return bool(await ask(*question))

        monkeypatch.setattr(kafka, "_ask_known_brokers", fails)

        async def answered() -> bool:
            async with asyncio.timeout(10):
                return bool(await client.force_metadata_update())

        await eventually(answered, within=30)
        assert not failures

    on_uvloop(scenario)


def test_questions_that_nobody_answers_in_time_fail_as_such_also_where_they_end_at_once(
    on_uvloop: Callable[[Scenario], None],
) -> None:
    """Given several questions to a broker that stands still, when their time is over in the same moment, as in a
    process that was stopped meanwhile, and whoever asked the first asks again, then the others fail like it."""

    async def scenario(client: AIOKafkaClient, connection: AIOKafkaConnection, line: Line) -> None:
        failures: list[Exception] = []

        async def ask() -> None:
            for _ in range(2):
                try:
                    await client.send(connection_id[0], MetadataRequest([]))
                except Exception as error:
                    failures.append(error)

        (connection_id,) = (key for key, one in client._conns.items() if one is connection)
        connection._request_timeout = 0.5
        line.lose()
        await asyncio.gather(*(ask() for _ in range(3)))
        assert len(failures) >= 3
        assert all(isinstance(error, KafkaError) for error in failures), failures

    on_uvloop(scenario)


def test_brokers_are_asked_on_another_connection_where_one_is_mute(on_uvloop: Callable[[Scenario], None]) -> None:
    """Given a connection that takes what is said on it and never answers, as one through a proxy that lost the other
    side, then the next question goes over a new one."""

    async def scenario(client: AIOKafkaClient, connection: AIOKafkaConnection, line: Line) -> None:
        connection._request_timeout = 0.5
        line.lose()
        assert connection.connected()
        async with asyncio.timeout(30):
            assert await client.force_metadata_update()
        assert not connection.connected()

    on_uvloop(scenario)


def test_what_no_broker_answers_is_not_taken_for_a_connection_that_was_reset(
    on_uvloop: Callable[[Scenario], None],
) -> None:
    """Given a question that the client cannot put to this broker, then it says so: to try it again would be in vain."""

    class Unheard(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
        def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
            raise IncompatibleBrokerVersion

    async def scenario(client: AIOKafkaClient, connection: AIOKafkaConnection, line: Line) -> None:
        with pytest.raises(IncompatibleBrokerVersion):
            connection.send(Unheard([]))
        assert connection.connected()

    on_uvloop(scenario)


LOOKED_AFTER = """
import asyncio
from aiokafka import conn
from aiokafka.client import AIOKafkaClient
from services.enrollment.main import build
from services.enrollment.settings import EnrollmentSettings

async def start():
    service = build(EnrollmentSettings(database_url="postgresql://nobody@127.0.0.1:1/none", port=0))
    starting = asyncio.create_task(service._start())
    await asyncio.sleep(0.2)
    assert not starting.done()
    print({each.__module__ for each in (conn.AIOKafkaConnection, conn.AIOKafkaProtocol, AIOKafkaClient.send)})

asyncio.run(start())
"""


def test_a_service_that_only_publishes_is_looked_after_as_well() -> None:
    """In a process of its own: in this one another service has been started before."""
    done = subprocess.run([sys.executable, "-c", LOOKED_AFTER], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'shared.kafka'}"
