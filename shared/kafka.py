"""How every part of a service reaches Kafka: addresses and security."""

import asyncio
import os
import socket
from collections.abc import Sequence
from copy import copy
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from shared.settings import ServiceSettings
from shared.telemetry import describe_bug, logger
from shared.topics import kafka_security
from shared.vanishing import notice_vanished

LOOK_S = 5.0
"""How long a broker may take to say what it holds of partitions. A question waits behind the fetch that is under way,
up to a second where little comes, and behind one more where it is asked just then who leads what."""
FIND_S = 10.0
"""How long brokers are looked for where the settings say, before those are asked again that were there last."""
BATCH_BYTES = 512 * 1024
"""Of one partition, in a batch that is sent and in an answer to a fetch; a larger batch of somebody else comes alone.
With fetches of the client's own megabyte a service far behind holds more; with half of this it takes less a second."""
log = logger("kafka")


def client_options(settings: ServiceSettings) -> dict[str, Any]:
    """Connection options that aiokafka's consumer, producer and admin client share."""
    return {"bootstrap_servers": settings.kafka_bootstrap, "client_id": _client_id(), **kafka_security(settings)}


def producer_options(settings: ServiceSettings) -> dict[str, Any]:
    """Those, and what all producers have in common."""
    sizes = {"max_batch_size": BATCH_BYTES, "max_request_size": 2 * 1024 * 1024}
    return {**client_options(settings), "acks": "all", **sizes}


def _client_id() -> str:
    """The same for all clients of a process. A broker begins a group member's name with it, and partitions are shared
    out in the order of these names: groups of a topic that the same processes read have the same partitions there."""
    return f"careloop-{socket.gethostname()}-{os.getpid()}"


def new_producer(settings: ServiceSettings) -> AIOKafkaProducer:
    """A producer that waits for all replicas and never writes a batch twice by its own retries."""
    return AIOKafkaProducer(**producer_options(settings), enable_idempotence=True, request_timeout_ms=15_000)


class _Protocol(conn.AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka has no types
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        notice_vanished(transport)


class _Connection(conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """One that was reset, as by the kernel of a broker that was killed, and not noticed yet: uvloop refuses to write
    with a RuntimeError (https://github.com/aio-libs/aiokafka/issues/1038). None of the client's tasks expects that:
    the one that gets it ends for good, be it the fetching, the group's, or who asks which broker leads what."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except (KafkaError, NotImplementedError):  # RuntimeErrors, too: what is asked is nothing that a broker answers
            raise
        except RuntimeError as error:
            self.close(conn.CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} is closed") from error


def look_after_brokers() -> None:
    """From now on every Kafka client of this process notices brokers that vanish: its own limit on a request, which has
    to be longer than a rebalance, is what a fetch would wait for. It takes a connection for closed when the loop does,
    and finds brokers that have moved."""
    conn.AIOKafkaProtocol, conn.AIOKafkaConnection = _Protocol, _Connection
    AIOKafkaClient.send, AIOKafkaClient._metadata_update = _send, _update_metadata


_send_request, _ask_known_brokers = AIOKafkaClient.send, AIOKafkaClient._metadata_update


async def _send(client: AIOKafkaClient, *request: Any, **options: Any) -> Any:
    """In the place of the client's own. Of requests whose time is over in the same moment the first closes their
    connection; where it is sent again at once, the others do not find that any more, and fail with what no task of the
    client expects."""
    try:
        return await _send_request(client, *request, **options)
    except KeyError as error:
        raise RequestTimedOutError from error


async def _update_metadata(client: AIOKafkaClient, cluster: ClusterMetadata, topics: Any) -> bool:
    """In the place of the client's own. The client asks nothing more after an error that it does not expect, and
    whoever waits for an answer would wait for ever."""
    try:
        return await _find_and_ask(client, cluster, topics)
    except Exception as error:
        log.warning("brokers could not be asked", error=describe_bug(error))
        return False


async def _find_and_ask(client: AIOKafkaClient, cluster: ClusterMetadata, topics: Any) -> bool:
    """The client itself asks those brokers alone of which it has been told last: where all of them have other addresses
    now, it would ask nobody else for ever."""
    if await _ask_known_brokers(client, cluster, topics):
        return True
    asking = copy(client)
    asking.cluster, asking._conns = ClusterMetadata(), {}
    try:
        async with asyncio.timeout(FIND_S):
            await asking.bootstrap()
    except (KafkaError, TimeoutError):
        return False
    # Of a broker that tells of none, and those on which nobody answers: they may be open, and would be asked for ever.
    for connection in [*asking._conns.values(), *client._conns.values()]:
        connection.close()
    client.cluster._brokers = asking.cluster._brokers or client.cluster._brokers
    return bool(await _ask_known_brokers(client, cluster, topics))


def join_again(consumer: AIOKafkaConsumer) -> None:
    """Where what the client does beside the poll has ended, as it does for good when its group's rights are denied for
    a moment, or with an error that it does not expect: each poll would fail with that for ever. To join the group again
    begins it anew."""
    coordinator = consumer._coordinator
    beside = coordinator._heartbeat_task, coordinator._commit_refresh_task
    if any(task is not None and task.done() for task in beside):
        coordinator.request_rejoin()


def abandon(consumer: AIOKafkaConsumer | None) -> None:
    """End what a client does that could not be stopped in time. Its heartbeat alone would keep its place in the group,
    and each time that is shared out anew the others would wait for it."""
    if consumer is None:
        return
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    tasks = [consumer._client._sync_task]
    if coordinator is not None:
        tasks += [coordinator._coordination_task, coordinator._heartbeat_task, coordinator._commit_refresh_task]
    if fetcher is not None:
        tasks += [fetcher._fetch_task]
    for task in tasks:
        if task is not None:
            task.cancel()
    for connection in list(consumer._client._conns.values()):
        connection.close()


def is_over(consumer: AIOKafkaConsumer | None) -> bool:
    """Whether something without which the client reads nothing has ended for good: its part in the group, its fetching,
    or the asking which broker leads what. Only a new client reads on."""
    if consumer is None or consumer._coordinator is None:
        return False  # not started
    in_group = getattr(consumer._coordinator, "_coordination_task", None)  # one without a group has none
    tasks = in_group, consumer._fetcher._fetch_task, consumer._client._sync_task
    return any(task is not None and task.done() for task in tasks)


def tasks_of(producer: AIOKafkaProducer) -> "tuple[asyncio.Task[None], asyncio.Task[None]]":
    """The client's own, of one that is started. Either may end by an error that the client did not expect: without the
    one nothing would ever be sent, without the other nobody would ask which broker leads what."""
    return producer._sender.sender_task, producer.client._sync_task


async def load_spans(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """The first and the end offset of each of these partitions of which a broker tells soon: of all at once, and of
    each alone where that fails. One that nobody leads must not hide the others. Both are asked at once: one after the
    other, each would wait behind a fetch."""
    try:
        async with asyncio.timeout(LOOK_S):
            first, end = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
            return {partition: (first[partition], end[partition]) for partition in partitions}
    except (KafkaError, TimeoutError):
        if len(partitions) == 1:
            return {}
    found: dict[TopicPartition, tuple[int, int]] = {}
    for alone in await asyncio.gather(*(load_spans(consumer, [partition]) for partition in partitions)):
        found |= alone
    return found
