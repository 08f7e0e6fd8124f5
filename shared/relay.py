"""Hands the outbox over to Kafka: in order for each member, each row at least once, deleted only after the ack.

There is no cursor: every round reads the oldest rows that are left, so a row whose transaction committed late is never
passed over. A lease keeps other replicas idle; it saves work and is not needed for order.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.clock import monotonic
from shared.database import Database
from shared.events.codec import HEADERS
from shared.kafka import Partitioner, new_producer
from shared.settings import ServiceSettings
from shared.telemetry import RELAY_BACKOFF, RELAY_FAILURES, RELAYED, logger
from shared.topics import topic_name

READ_MAX = 4_000
"""Rows read in one round."""
IDLE_S = 0.25
"""How often an idle relay looks although nobody woke it."""
LEASE_S = 5.0
CHANNEL = "careloop_outbox"
RECORD_HEADERS = list(HEADERS)
log = logger("relay")

HOLD_LEASE = """
insert into delivery.relay_lease (only_row, holder, expires_at)
values (true, $1, clock_timestamp() + make_interval(secs => $2))
on conflict (only_row) do update set holder = excluded.holder, expires_at = excluded.expires_at
where relay_lease.holder = excluded.holder or relay_lease.expires_at < clock_timestamp()
returning 1
"""

GIVE_BACK_LEASE = "update delivery.relay_lease set expires_at = '-infinity' where holder = $1"

DELETE_AND_READ = """
with acknowledged as (delete from delivery.outbox where outbox_id = any($1::bigint[]))
select outbox_id, topic, member_id, value, created_at from delivery.outbox
where outbox_id <> all($1::bigint[]) and member_id <> all($2::uuid[]) order by outbox_id limit $3
"""


@dataclass(slots=True)
class _Round:
    acknowledged: list[int] = field(default_factory=list)
    failed: list[tuple[UUID, str]] = field(default_factory=list)


class Relay:
    """One per process. `run` never returns; `wake` says that something was committed."""

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._holder = uuid4()
        self._woken = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._partitioner = Partitioner()
        self._backoff: dict[UUID, tuple[float, float]] = {}
        self._leading_until = 0.0
        self._notify: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this process hands over the outbox at the moment."""
        return monotonic() < self._leading_until

    def wake(self) -> None:
        """Something was committed to the outbox. Cheap; a wake-up only, never the truth."""
        if self.leading:
            self._woken.set()
        elif self._notify is None or self._notify.done():
            self._notify = asyncio.create_task(self._tell_leader())

    async def _tell_leader(self) -> None:
        with suppress(Exception):  # the leader looks by itself soon enough
            await self._database.execute(f"notify {CHANNEL}")

    async def run(self) -> None:
        """Take the lease when it is free and relay while it is held. Raises on failure; the service starts it again."""
        listener = await self._database.acquire()
        try:
            await listener.add_listener(CHANNEL, self._on_notify)
            while True:
                await self._lead_or_wait()
        finally:
            await self._stop_producer()
            with suppress(Exception):
                await listener.execute(GIVE_BACK_LEASE, self._holder)
                await listener.remove_listener(CHANNEL, self._on_notify)
                await self._database.release(listener)

    def _on_notify(self, *_: object) -> None:
        self._woken.set()

    async def _lead_or_wait(self) -> None:
        asked = monotonic()
        if not await self._database.fetchval(HOLD_LEASE, self._holder, LEASE_S):
            self._leading_until = 0.0
            await asyncio.sleep(LEASE_S / 5)
            return
        self._leading_until = asked + LEASE_S
        acknowledged: list[int] = []
        while monotonic() < self._leading_until - LEASE_S * 0.6:
            self._woken.clear()
            blocked = self._blocked()
            rows = await self._database.fetch(DELETE_AND_READ, acknowledged, blocked, READ_MAX)
            acknowledged = []
            if not rows:
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S):
                        await self._woken.wait()
                continue
            acknowledged = await self._hand_over(rows)
        if acknowledged:
            await self._database.execute(
                "delete from delivery.outbox where outbox_id = any($1::bigint[])", acknowledged
            )

    def _blocked(self) -> list[UUID]:
        now = monotonic()
        RELAY_BACKOFF.set(len(self._backoff))
        return [member for member, (until, _) in self._backoff.items() if until > now]

    async def _hand_over(self, rows: list[asyncpg.Record]) -> list[int]:
        """Send rows, partitions side by side, each partition batch after batch; ids of those acknowledged."""
        try:
            producer = await self._ready_producer()
            by_partition: dict[tuple[str, int], list[asyncpg.Record]] = {}
            for row in rows:
                topic = topic_name(self._settings.namespace, row["topic"])
                partitions = len(await producer.partitions_for(topic))
                place = (topic, self._partitioner.partition(row["member_id"], partitions))
                by_partition.setdefault(place, []).append(row)
        except KafkaError as error:
            await self._failed(error)
            return []
        done = _Round()
        results = await asyncio.gather(
            *(
                self._send_partition(producer, topic, partition, queue, done)
                for (topic, partition), queue in by_partition.items()
            ),
            return_exceptions=True,
        )
        self._note_failures(done)
        for result in results:
            if isinstance(result, KafkaError):
                await self._failed(result)
                break
            if isinstance(result, BaseException):
                raise result
        return done.acknowledged

    async def _send_partition(
        self, producer: AIOKafkaProducer, topic: str, partition: int, queue: list[asyncpg.Record], done: _Round
    ) -> None:
        """One record batch after the other, each acknowledged before the next, so that a failure leaves no gap."""
        rest = queue
        while rest:
            batch, count = producer.create_batch(), 0
            while count < len(rest) and _append(batch, rest[count]):
                count += 1
            if count == 0:
                done.failed.append((rest[0]["member_id"], "larger than a batch"))
                rest = [row for row in rest if row["member_id"] != rest[0]["member_id"]]
                continue
            taken, rest = rest[:count], rest[count:]
            try:
                await (await producer.send_batch(batch, topic, partition=partition))
            except KafkaError as error:
                if error.retriable or len(taken) == 0:
                    raise
                refused = await self._send_members(producer, topic, partition, taken, done)
                rest = [row for row in rest if row["member_id"] not in refused]
                continue
            self._acknowledge(done, taken)

    async def _send_members(
        self, producer: AIOKafkaProducer, topic: str, partition: int, rows: list[asyncpg.Record], done: _Round
    ) -> set[UUID]:
        """A batch was refused for one of its records: send row by row; a member with a refused row backs off alone."""
        refused: set[UUID] = set()
        for row in rows:
            if row["member_id"] in refused:
                continue
            batch = producer.create_batch()
            _append(batch, row)
            try:
                await (await producer.send_batch(batch, topic, partition=partition))
            except KafkaError as error:
                if error.retriable:
                    raise
                refused.add(row["member_id"])
                done.failed.append((row["member_id"], type(error).__name__))
            else:
                self._acknowledge(done, [row])
        return refused

    def _acknowledge(self, done: _Round, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            done.acknowledged.append(row["outbox_id"])
            self._backoff.pop(row["member_id"], None)
            RELAYED.labels(row["topic"]).inc()

    def _note_failures(self, done: _Round) -> None:
        now = monotonic()
        for member, reason in done.failed:
            delay = min(60.0, 2 * self._backoff.get(member, (0.0, 0.5))[1])
            self._backoff[member] = (now + delay, delay)
            RELAY_FAILURES.labels(reason).inc()
            log.error("Kafka refuses an event; its member's later events wait", reason=reason, retry_in_s=delay)

    async def _ready_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = new_producer(self._settings)
            try:
                await producer.start()
            except BaseException:
                with suppress(Exception):
                    await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _failed(self, error: KafkaError) -> None:
        """Kafka is away or the producer is stuck: build a new one after a pause; the rows are still there."""
        RELAY_FAILURES.labels(type(error).__name__).inc()
        log.warning("Kafka did not acknowledge", error=type(error).__name__)
        await self._stop_producer()
        await asyncio.sleep(0.5)

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                await asyncio.wait_for(producer.stop(), 5)


def _append(batch: Any, row: asyncpg.Record) -> bool:
    created: datetime = row["created_at"]
    appended = batch.append(
        timestamp=int(created.timestamp() * 1000),
        key=str(row["member_id"]).encode(),
        value=row["value"],
        headers=RECORD_HEADERS,
    )
    return appended is not None
