"""Record batches of one partition after the other, each acknowledged before the next, for the relay.

Most go through one producer. A partition that has failed, and a record that Kafka has refused, go through another one,
so that what they do to a client (a pause after each failure, a gap in a sequence) is done to nobody else's.
"""

import asyncio
from collections.abc import Container, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
    UnknownError,
    UnknownTopicOrPartitionError,
)

from shared.clock import wall_now
from shared.ending import end_tasks
from shared.events.codec import HEADERS
from shared.kafka import new_producer, producer_options, tasks_of
from shared.settings import ServiceSettings
from shared.telemetry import logger

SLOW_S = 1.0
"""A batch that is under way for longer no longer shares its producer: others get a new one."""
GIVE_UP_S = 30.0
"""Nothing is waited for longer: the client can hold on to a batch for ever."""
LOOK_S = 3.0
"""How long the partitions of a topic are asked for."""
CLOSE_S = 3.0
REFUSALS = (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)
"""What a record can be refused for. Any other failure is the partition's."""
UNKNOWN_MAX = 3
"""After so many records refused for a reason that the client does not know, and none taken, no more are tried. Where
none is taken at all it is the partition that refuses, not its records."""
AHEAD_MAX = timedelta(minutes=5)
"""A row that is further ahead was written while the database's clock was. It goes out now: Kafka would refuse it until
that time has come."""
RECORD_HEADERS = list(HEADERS)
log = logger("relay")


@dataclass(slots=True)
class Sent:
    """How far the rows of a partition have come."""

    acknowledged: list[asyncpg.Record] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)
    """Members with a row that Kafka refuses, and why; none of their later rows were sent."""


@dataclass(slots=True, eq=False)
class _Shared:
    """A producer that several partitions use at once."""

    producer: AIOKafkaProducer
    users: int = 0
    replaced: bool = False
    """Nothing more is sent with it; it is closed when what is under way has ended."""
    gaps: set[TopicPartition] = field(default_factory=set)
    """Partitions in which a batch got no acknowledgement: an idempotent producer is out of sequence there for good."""
    given_up: bool = False


class Sender:
    """The producers of one stream of rows."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._main: _Shared | None = None
        self._apart: _Shared | None = None
        self._starting = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._replacing = False

    async def start(self) -> None:
        """Connect, where it has not yet, or begin to once more where nothing would ever be sent. Raises KafkaError or
        OSError where no broker answers."""
        if self._main is None:
            self._main = _Shared(await _started(new_producer(self._settings)))
        elif _has_ended(self._main.producer):
            self._replace(self._main)

    async def close(self) -> None:
        """Close every producer, also one that holds on to a batch."""
        await end_tasks(self._background, after_s=CLOSE_S, within_s=CLOSE_S)
        for shared in (self._main, self._apart):
            if shared is not None:
                await close_producer(shared.producer, at_once=shared.given_up)
        self._main = self._apart = None

    async def count_partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises KafkaError or TimeoutError where there is none."""
        assert self._main is not None
        client = self._main.producer.client
        async with asyncio.timeout(LOOK_S):
            for _ in range(3):  # an answer that was under way already may lack the topic
                client.add_topic(topic)
                await client.force_metadata_update()
                if partitions := client.cluster.partitions_for_topic(topic):
                    return len(partitions)
        raise UnknownTopicOrPartitionError(topic)

    async def send(
        self,
        place: TopicPartition,
        rows: Sequence[asyncpg.Record],
        sent: Sent,
        *,
        apart: bool,
        suspects: Container[UUID],
    ) -> None:
        """Send rows of a partition in their order. Raises KafkaError or TimeoutError where it takes none now; what was
        acknowledged before is in `sent`. `apart`: it has failed before. `suspects`: members of whom a row was refused
        before; they are tried last, so that another refusal costs nobody else anything."""
        main = self._main
        assert main is not None
        if place in main.gaps:
            self._replace(main)
        if apart or place in main.gaps:
            await self._send_apart(place, rows, sent, suspects)
            return
        rest = [row for row in rows if row["member_id"] not in suspects]
        with self._in_use(main):
            while rest:
                batch, count = _fill(main.producer, rest)
                try:
                    if count:
                        await self._deliver(main, place, batch)
                except KafkaError as error:
                    main.gaps.add(place)
                    self._replace(main)
                    if not isinstance(error, REFUSALS):
                        raise
                    break
                if not count:
                    break
                sent.acknowledged += rest[:count]
                rest = rest[count:]
        await self._send_apart(place, rest, sent, suspects)
        await self._send_apart(place, [row for row in rows if row["member_id"] in suspects], sent, suspects)

    async def _send_apart(
        self, place: TopicPartition, rows: Sequence[asyncpg.Record], sent: Sent, suspects: Container[UUID]
    ) -> None:
        """Send rows; what is refused, in ever smaller batches until the guilty row is alone. Its member's later rows
        are left out."""
        if not rows:
            return
        apart = await self._ready_apart()
        with self._in_use(apart):
            await _look_for_leader(apart.producer, place)
            pieces, taken = [list(rows)], 0
            unknown: list[UUID] = []
            while pieces:
                piece = [row for row in pieces.pop() if row["member_id"] not in sent.refused]
                if not piece:
                    continue
                batch, count = _fill(apart.producer, piece)
                pieces.append(piece[max(1, count) :])
                if count == 0:
                    sent.refused[piece[0]["member_id"]] = "larger than a batch"
                    continue
                piece = piece[:count]
                try:
                    await self._deliver(apart, place, batch)
                except REFUSALS as error:
                    if count > 1:
                        pieces += [piece[count // 2 :], piece[: count // 2]]
                        continue
                    sent.refused[piece[0]["member_id"]] = type(error).__name__
                    if isinstance(error, UnknownError) and piece[0]["member_id"] not in suspects:
                        unknown.append(piece[0]["member_id"])
                        if len(unknown) == UNKNOWN_MAX and not taken:
                            break
                else:
                    taken += count
                    sent.acknowledged += piece
            if unknown and not taken:
                for member in unknown:
                    del sent.refused[member]
                raise UnknownError(place)

    async def _deliver(self, shared: _Shared, place: TopicPartition, batch: Any) -> None:
        """Until the batch is acknowledged. One that takes long gets its producer for itself and those in like case."""
        producer = shared.producer
        if producer.client.cluster.leader_for_partition(place) == -1:
            producer.client.force_metadata_update()
            raise LeaderNotAvailableError(place)
        delivery = asyncio.create_task(_deliver(producer, place, batch))
        try:
            await asyncio.wait([delivery], timeout=SLOW_S)
            if not delivery.done() and shared is self._main:
                self._replace(shared)
                if producer.client.cluster.leader_for_partition(place) in (None, -1):
                    shared.given_up = True
                    raise LeaderNotAvailableError(place)
            if not delivery.done():
                await asyncio.wait([delivery], timeout=GIVE_UP_S - SLOW_S)
            if not delivery.done():
                shared.given_up = True
                self._replace(shared)
                raise KafkaTimeoutError(place)
            delivery.result()
        finally:
            delivery.cancel()

    # -- producers

    @contextmanager
    def _in_use(self, shared: _Shared) -> Iterator[None]:
        shared.users += 1
        try:
            yield
        finally:
            shared.users -= 1
            self._close_unused(shared)

    def _close_unused(self, shared: _Shared) -> None:
        if shared.replaced and not shared.users:
            self._in_background(close_producer(shared.producer, at_once=shared.given_up))

    def _replace(self, shared: _Shared) -> None:
        """Use another producer from now on: at once for those apart, for the others when it has been started."""
        if shared is self._apart:
            self._apart, shared.replaced = None, True
            self._close_unused(shared)
        elif shared is self._main and not self._replacing:
            self._replacing = True
            self._in_background(self._replace_main(shared))

    async def _replace_main(self, old: _Shared) -> None:
        try:
            producer = await _started(new_producer(self._settings))
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning(
                "no new producer", error=type(error).__name__
            )  # whoever fails next with the old one tries again
            return
        finally:
            self._replacing = False
        self._main, old.replaced = _Shared(producer), True
        self._close_unused(old)

    async def _ready_apart(self) -> _Shared:
        async with self._starting:
            if self._apart is not None and _has_ended(self._apart.producer):
                self._replace(self._apart)
            if self._apart is None:
                self._apart = _Shared(await _started(_new_producer_apart(self._settings)))
            return self._apart

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _new_producer_apart(settings: ServiceSettings) -> AIOKafkaProducer:
    """Without sequences, so that a refusal leaves no gap, and gives up what it cannot send. What it sends twice, the
    inboxes drop."""
    return AIOKafkaProducer(**producer_options(settings), request_timeout_ms=5_000)


def _has_ended(producer: AIOKafkaProducer) -> bool:
    return any(task.done() for task in tasks_of(producer))


async def _started(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    try:
        await asyncio.wait_for(producer.start(), GIVE_UP_S)
    except BaseException:
        await close_producer(producer, at_once=True)
        raise
    return producer


async def close_producer(producer: AIOKafkaProducer, *, at_once: bool) -> None:
    """`at_once`: it may hold on to a batch that nobody waits for any more; its own closing would wait for that."""
    if not at_once:
        with suppress(Exception):
            await asyncio.wait_for(producer.stop(), CLOSE_S)
            return
    # Its task first: of a batch that has failed it would send again what is not there any more.
    await _try_to_end(producer._sender.close())
    _fail_all(producer._message_accumulator)
    await _try_to_end(producer.stop())
    await _try_to_end(producer.client.close())


async def _try_to_end(ending: Coroutine[Any, Any, None]) -> None:
    """Whatever becomes of it: where one of its own tasks was cancelled the client raises that, and whoever closes it
    would pass for cancelled, too."""
    task = asyncio.create_task(ending)
    await end_tasks((task,), after_s=CLOSE_S, within_s=CLOSE_S)
    if task.done() and not task.cancelled():
        task.exception()


def _fail_all(accumulator: Any) -> None:
    """All that was not acknowledged. Nobody waits for it, nor for it to be sent."""
    accumulator.fail_all(ProducerClosed())
    for batch in chain.from_iterable(accumulator._batches.values()):
        batch._drain_waiter.exception()  # or the loop complains that nobody has looked at it


async def _look_for_leader(producer: AIOKafkaProducer, place: TopicPartition) -> None:
    """Ask who leads now, rather than have a batch wait for it. LeaderNotAvailableError where nobody does,
    UnknownTopicOrPartitionError where the partition is not there: its topic was deleted, or made anew."""
    producer.client.add_topic(place.topic)
    await asyncio.wait_for(producer.client.force_metadata_update(), LOOK_S)
    leader = producer.client.cluster.leader_for_partition(place)
    if leader is None:
        raise UnknownTopicOrPartitionError(place)
    if leader == -1:
        raise LeaderNotAvailableError(place)


async def _deliver(producer: AIOKafkaProducer, place: TopicPartition, batch: Any) -> None:
    await (await producer.send_batch(batch, place.topic, partition=place.partition))


def _fill(producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> tuple[Any, int]:
    """A batch of the first rows, and how many fit."""
    batch, count, latest = producer.create_batch(), 0, wall_now() + AHEAD_MAX
    while count < len(rows) and _append(batch, rows[count], latest):
        count += 1
    return batch, count


def _append(batch: Any, row: asyncpg.Record, latest: datetime) -> bool:
    created: datetime = min(row["created_at"], latest)
    appended = batch.append(
        timestamp=int(created.timestamp() * 1000),
        key=str(row["member_id"]).encode(),
        value=row["value"],
        headers=RECORD_HEADERS,
    )
    return appended is not None
