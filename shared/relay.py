"""Hands the outbox over to Kafka: in order for each member, each row at least once, deleted only after the ack.

There is no cursor: every round reads the oldest rows that are left, so a row whose transaction committed late is never
passed over. What is urgent is handed over beside the rest, with connections of its own. A lease keeps other replicas
idle; it saves work and is not needed for order.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from shared.backoff import Backoff
from shared.clock import monotonic
from shared.database import Database, is_transient
from shared.ending import end_tasks, see_through
from shared.partitioning import key_of
from shared.sending import Sender, Sent
from shared.settings import ServiceSettings
from shared.telemetry import BUGS, RELAY_BACKOFF, RELAY_FAILURES, RELAYED, TASK_RESTARTS, describe_bug, logger
from shared.topics import topic_name

READ_MAX, READ_BYTES = 4_000, 16 << 20
"""Rows read in one round, and bytes after which no more are: as many plain rows have less than half of it."""
IDLE_S = 0.25
"""How often an idle relay looks although nobody woke it."""
PATIENCE_S = 0.2
"""How long a round waits for its partitions. One that takes longer goes on by itself, and the next round without it."""
LEASE_S = 5.0
END_S = 2.0
CHANNEL = "careloop_outbox"
URGENT = "urgent"
log = logger("relay")

# One that ends later than anybody asks for was taken while the server's clock was ahead.
HOLD_LEASE = """
insert into delivery.relay_lease (only_row, holder, expires_at)
values (true, $1, clock_timestamp() + make_interval(secs => $2))
on conflict (only_row) do update set holder = excluded.holder, expires_at = excluded.expires_at
where relay_lease.holder = excluded.holder
    or relay_lease.expires_at not between clock_timestamp() and clock_timestamp() + make_interval(secs => 2 * $2)
returning 1
"""

GIVE_BACK_LEASE = "update delivery.relay_lease set expires_at = '-infinity' where holder = $1"

# The row that was sent, not whatever has its number now: a database that failed over draws numbers again. Not as a
# join: planned while the outbox was empty, it would read all of it in every round of a backlog.
DELETE = """
delete from delivery.outbox where outbox_id = any($1::bigint[])
    and ((outbox_id, created_at) in (select * from unnest($1::bigint[], $2::timestamptz[]))) is true
"""

READ = """
select outbox_id, topic, member_id, value, created_at, key_hash from (
    select *, sum(octet_length(value)) over (order by outbox_id rows unbounded preceding) - octet_length(value) as bytes
    from (
        select outbox_id, topic, member_id, value, created_at, key_hash from delivery.outbox as o
        where {kind} {but} order by outbox_id limit $1
    ) as oldest
) as sized where bytes < {most} order by outbox_id
"""
# As a condition of its own, not as a join: a join could end the reading in the order of the index. Only where something
# is away: with it, the statement would be planned again in each round.
BUT = """
and member_id <> all($2::uuid[]) and topic <> all($3::text[])
    and not exists (
        select from unnest($4::text[], $5::int[], $6::int[]) as away(topic, partitions, number)
        where away.topic = o.topic and o.key_hash % away.partitions = away.number
    )
"""


Place = tuple[str, int]
"""A topic of the catalogue and the number of one of its partitions."""


class _Away(NamedTuple):
    """What a round leaves where it is."""

    members: set[UUID]
    topics: set[str]
    places: set[Place]


class Outflow:
    """The rows of one kind, urgent or not. A partition, a topic or a member that fails is left alone for a while, and
    its rows are not read meanwhile."""

    def __init__(
        self, settings: ServiceSettings, database: Database, *, urgent: bool, is_leading: Callable[[], bool]
    ) -> None:
        self.woken = asyncio.Event()
        self.stopping = False
        self._may_find, self._read_at = True, monotonic()
        """Whether there may be rows that no round has read, and when one read last: what is acknowledged only has to
        be deleted."""
        self._namespace = settings.namespace
        self._database, self._is_leading = database, is_leading
        self._kind = "urgent" if urgent else "not urgent"
        self._sender = Sender(settings)
        self._partitions: dict[str, int] = {}
        self._acknowledged: list[tuple[int, datetime]] = []
        self._sending: dict[Place, asyncio.Task[None]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._members: Backoff[UUID] = Backoff(first_s=1.0, most_s=60.0)
        self._topics: Backoff[str] = Backoff(first_s=0.5, most_s=5.0)
        self._places: Backoff[Place] = Backoff(first_s=0.5, most_s=5.0)

    def wake(self) -> None:
        """Something was committed."""
        self._may_find = True
        self.woken.set()

    async def run(self) -> None:
        """Hand over while this process leads, until it is stopped. Raises what the database raises."""
        self._may_find = True
        while not self.stopping:
            self.woken.clear()
            if self._is_leading():
                await self._round()
            else:
                await self._delete()  # what was under way when this process led
                self._forget_members()
                await self._idle(IDLE_S)

    def _forget_members(self) -> None:
        """Who leads tries them, and tells of them."""
        RELAY_BACKOFF.dec(len(self._members))
        self._members = Backoff(first_s=1.0, most_s=60.0)

    async def close(self) -> None:
        """End what is under way; what was acknowledged by then is deleted."""
        await end_tasks([*self._sending.values(), *self._looking.values()], after_s=END_S / 2, within_s=END_S)
        self._forget_members()
        with suppress(Exception):
            await asyncio.wait_for(self._delete(), END_S / 2)
        await self._sender.close()

    async def _round(self) -> None:
        # Before the statements: what is acknowledged while they run is still in what is read.
        away = _Away(
            members=self._members.waiting(),
            topics=self._topics.waiting() | self._looking.keys(),
            places=self._places.waiting() | self._sending.keys(),
        )
        await self._delete()
        rest = self._read_at + IDLE_S - monotonic()
        if not self._may_find and rest > 0:
            await self._idle(rest)
            return
        self._may_find, self._read_at = False, monotonic()  # what is committed while it runs is read next time
        rows = await self._read(away)
        is_full = len(rows) == READ_MAX or sum(len(row["value"]) for row in rows) >= READ_BYTES
        if is_full or any(away):
            self._may_find = True
        if not rows or not await self._connect():
            await self._idle(IDLE_S)
            return
        promising = self._hand_over(rows, away)
        if promising:
            await asyncio.wait(promising, timeout=PATIENCE_S)
        else:
            await self._idle(IDLE_S)

    async def _idle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()

    async def _delete(self) -> None:
        acknowledged, self._acknowledged = self._acknowledged, []
        if not acknowledged:
            return
        try:
            await self._database.execute(DELETE, *zip(*acknowledged, strict=True), timeout=10)
        except BaseException:
            self._acknowledged += acknowledged
            raise

    async def _read(self, away: _Away) -> list[asyncpg.Record]:
        but, arguments = "", list[Any]()
        if any(away):
            places = [(t, self._partitions[t], number) for t, number in away.places if t in self._partitions]
            but = BUT
            arguments = [list(away.members), list(away.topics), *([one[at] for one in places] for at in range(3))]
        statement = READ.format(kind=self._kind, but=but, most=READ_BYTES)
        rows: list[asyncpg.Record] = await self._database.fetch(statement, READ_MAX, *arguments)
        return rows

    async def _connect(self) -> bool:
        try:
            await self._sender.start()
        except (KafkaError, OSError, TimeoutError) as error:
            RELAY_FAILURES.labels(type(error).__name__).inc()
            log.warning("Kafka does not answer", error=type(error).__name__)
            await asyncio.sleep(IDLE_S)
            return False
        return True

    def _hand_over(self, rows: Sequence[asyncpg.Record], away: _Away) -> list["asyncio.Task[None]"]:
        """Begin to send rows, partitions side by side; the tasks of those that have not failed before."""
        by_place: dict[Place, list[asyncpg.Record]] = {}
        for row in rows:
            partitions = self._partitions.get(row["topic"])
            if partitions is None:
                self._look_for(row["topic"])
                continue
            key_hash = row["key_hash"]
            if key_hash is None:
                key_hash = key_of(row["member_id"]).hash
            by_place.setdefault((row["topic"], key_hash % partitions), []).append(row)
        begun = [place for place in by_place if place not in away.places]
        for place in begun:
            self._sending[place] = asyncio.create_task(self._send(place, by_place[place]))
        return [self._sending[place] for place in begun if place not in self._places]

    async def _send(self, place: Place, rows: Sequence[asyncpg.Record]) -> None:
        topic, number = place
        sent = Sent()
        try:
            await self._sender.send(
                TopicPartition(topic_name(self._namespace, topic), number),
                rows,
                sent,
                apart=place in self._places,
                suspects=self._members,
            )
        except Exception as error:
            if isinstance(error, UnknownTopicOrPartitionError) or not isinstance(error, KafkaError):
                self._partitions.pop(topic, None)  # the topic may have gone, or be another one now
            delay = self._places.fail(place)
            self._note("a partition takes nothing; its events wait", error, topic, delay)
        else:
            self._places.succeed(place)
        finally:
            self._take_note(topic, sent)
            del self._sending[place]
            if len(sent.acknowledged) < len(rows):
                self._may_find = True
            self.woken.set()

    def _look_for(self, topic: str) -> None:
        if topic not in self._looking and topic not in self._topics.waiting():
            self._looking[topic] = asyncio.create_task(self._count_partitions(topic))

    async def _count_partitions(self, topic: str) -> None:
        try:
            self._partitions[topic] = await self._sender.count_partitions(topic_name(self._namespace, topic))
            self._topics.succeed(topic)
        except Exception as error:
            delay = self._topics.fail(topic)
            self._note("a topic is not there; its events wait", error, topic, delay)
        finally:
            del self._looking[topic]
            self.wake()

    def _note(self, what: str, error: Exception, topic: str, delay: float) -> None:
        RELAY_FAILURES.labels(type(error).__name__).inc()
        if isinstance(error, (KafkaError, OSError, TimeoutError)):
            log.warning(what, topic=topic, error=type(error).__name__, retry_in_s=delay)
        else:
            BUGS.labels("relay").inc()
            log.error(what, topic=topic, error=describe_bug(error), retry_in_s=delay)

    def _take_note(self, topic: str, sent: Sent) -> None:
        before = len(self._members)
        self._acknowledged += [(row["outbox_id"], row["created_at"]) for row in sent.acknowledged]
        if before:
            for row in sent.acknowledged:
                self._members.succeed(row["member_id"])
        RELAYED.labels(topic).inc(len(sent.acknowledged))
        for member, reason in sent.refused.items():
            delay = self._members.fail(member)
            RELAY_FAILURES.labels(reason).inc()
            log.error("Kafka refuses an event; its member's later events wait", reason=reason, retry_in_s=delay)
        RELAY_BACKOFF.inc(len(self._members) - before)


class Relay:
    """One per process. `run` never returns; `wake` says that something was committed."""

    def __init__(self, settings: ServiceSettings, database: Database, safety: Database) -> None:
        """`safety`: a pool that only red flags use, for those on their way out too, and for the lease: whoever lost it
        could not take it again while all others are used."""
        self._settings, self._database, self._safety = settings, database, safety
        self._holder = uuid4()
        self._leading_until = 0.0
        self._urgent: Outflow | None = None
        self._bulk: Outflow | None = None
        self._untold: set[bool] = set()
        """Whether the leader is to be told of something, urgent or not."""
        self._telling: dict[bool, asyncio.Task[None]] = {}

    @property
    def leading(self) -> bool:
        """Whether this process hands over the outbox at the moment."""
        return monotonic() < self._leading_until

    def wake(self, *, urgent: bool = False) -> None:
        """Something was committed to the outbox. Cheap; a wake-up only, never the truth."""
        if self.leading:
            self._wake(urgent=urgent)
            return
        self._untold.add(urgent)
        if urgent not in self._telling:
            self._telling[urgent] = asyncio.create_task(self._tell_leader(urgent))

    def _wake(self, *, urgent: bool) -> None:
        for outflow in (self._urgent, self._bulk) if urgent else (self._bulk,):
            if outflow is not None:
                outflow.wake()

    async def _tell_leader(self, urgent: bool) -> None:
        """Once more where something was committed meanwhile: the leader may have read before that."""
        database = self._safety if urgent else self._database
        try:
            while urgent in self._untold:
                self._untold.remove(urgent)
                with suppress(Exception):  # the leader looks by itself soon enough
                    await database.execute("select pg_notify($1, $2)", CHANNEL, URGENT if urgent else "")
        finally:
            del self._telling[urgent]

    async def run(self) -> None:
        """Take the lease when it is free and relay while it is held."""
        self._urgent = Outflow(self._settings, self._safety, urgent=True, is_leading=lambda: self.leading)
        self._bulk = Outflow(self._settings, self._database, urgent=False, is_leading=lambda: self.leading)
        parts = [asyncio.create_task(_keep_running(part)) for part in (self._lead, self._urgent.run, self._bulk.run)]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            # Whoever ends this cancels it again and again, and what has begun to end should come to its end.
            await see_through(asyncio.create_task(self._end(parts, (self._urgent, self._bulk))), within_s=4 * END_S)

    async def _end(self, parts: Sequence["asyncio.Task[None]"], outflows: Sequence[Outflow]) -> None:
        """The lease is given back last: another process begins at once."""
        lead, *flowing = parts
        for outflow in outflows:
            outflow.stopping = True
            outflow.woken.set()
        await end_tasks(flowing, after_s=END_S, within_s=END_S)
        await asyncio.gather(*(outflow.close() for outflow in outflows))
        await end_tasks([lead], within_s=END_S)

    async def _lead(self) -> None:
        listener = await self._safety.acquire()
        try:
            await listener.add_listener(CHANNEL, self._on_notify)
            while True:
                asked = monotonic()
                held = await listener.fetchval(HOLD_LEASE, self._holder, LEASE_S)
                begins = held and not self.leading
                self._leading_until = asked + LEASE_S if held else 0.0
                if begins:
                    self._wake(urgent=True)
                await asyncio.sleep(LEASE_S * (0.4 if held else 0.2))
        finally:
            with suppress(Exception, asyncio.CancelledError):  # the next of several must not cost the connection
                await listener.execute(GIVE_BACK_LEASE, self._holder)
                await listener.remove_listener(CHANNEL, self._on_notify)
            self._leading_until = 0.0
            with suppress(Exception):
                await self._safety.release(listener)

    def _on_notify(self, *told: Any) -> None:
        self._wake(urgent=told[-1] == URGENT)


async def _keep_running(part: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A failure of the world costs only the part that it hits, and not for long. A bug ends the whole."""
    while True:
        try:
            await part()
            return
        except Exception as error:
            if not is_transient(error):
                raise
            TASK_RESTARTS.labels("relay").inc()
            log.warning("a part of the relay failed and starts again", error=type(error).__name__)
        await asyncio.sleep(0.5)
