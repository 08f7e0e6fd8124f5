"""Taking one chunk, however often the world fails: the same chunk again, smaller when it takes too long, and a bug once
more in isolation, so that it costs one event. A failure never skips a record."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from shared.arrivals import KILLER, TOO_SLOW, UNSTORABLE, Arrival, Fault, read_arrivals, unread, without_headers
from shared.clock import Clock, monotonic, wall_now
from shared.consuming import Chunk, PositionLost, SettleWaiting, Taken, take_chunks
from shared.database import LOCK_TIMEOUT, Database, TookTooLong, bounded_transaction, is_transient
from shared.inbox import LateConflict
from shared.lanes import Lane, RawChunk
from shared.one_in_hand import OneInHand
from shared.outcomes import Answer
from shared.parking import Full, NoRoom, Room
from shared.positions import ATTEMPTS_MAX, Counts, record_attempt, take_back_attempt
from shared.replaying import Reader
from shared.sharing import LOCK_PATIENCE, SHORT_PATIENCE, SMALL, SharedTransactions
from shared.slow_events import Suspicion
from shared.telemetry import (
    BUGS,
    CHUNK_RETRIES,
    CHUNK_SECONDS,
    EVENTS_PUBLISHED,
    RECORDS,
    SAFETY_FAILURES,
    WRONG_PARTITION,
    describe_bug,
    logger,
)

TOO_LONG_MAX = 2
"""After a chunk has taken too long this often it is halved; half of one, after the first time."""
TAKE_BACK_S = 2.0
"""How long whoever comes next waits for a connection with which an attempt is taken back."""
ROOM_WAIT_S = 1.0
"""How often it is tried again whether there is room to hold what must be held."""
log = logger("intake")


@dataclass(kw_only=True)
class ChunkTaker:
    """The transaction side of one subscription."""

    reader: Reader
    service: str
    database: Database
    clock: Clock
    settle_waiting: SettleWaiting
    committed: Callable[[int, Answer | None], None]
    """Told how many events were published, and the answer of what was written, where that is known."""
    room: Room | None = None
    records_max: int = 500
    """That are taken in one transaction."""

    one_in_hand: OneInHand = field(default_factory=OneInHand)
    """Of the process: who takes a record whose attempts are counted."""

    def __post_init__(self) -> None:
        self.subscription = self.reader.subscription
        self._partitions = 0
        self._owed: Counter[tuple[int, int]] = Counter()
        """By partition and offset: attempts that have ended, and could not be taken back so far."""
        # Before they rise: Prometheus sees no rise in a series that begins with its first failure.
        BUGS.labels(self.subscription.group)
        WRONG_PARTITION.labels(self.subscription.topic)
        if self.subscription.stateless:
            SAFETY_FAILURES.labels(self.subscription.group)
        # Who hurries goes beside those who had patience, not behind them.
        self._shared = {
            hurried: SharedTransactions(self._take_together, records_max=self.records_max) for hurried in (True, False)
        }

    async def take(self, lane: Lane, raw: RawChunk, *, counted: bool, partitions: int) -> None:
        """Take a chunk. Returns when it is committed; raises PositionLost where the position is not what the chunk
        was read for. `counted`: note the attempt first; what was begun too often is condemned.
        `partitions`: how many the topic has; 0 where the client does not know at this moment."""
        self._partitions = partitions
        if counted or len(raw.records) > SMALL or not await self._shared[raw.hurried].join(raw):
            await self._take_alone(lane, raw, counted=counted)

    async def _take_together(self, raws: Sequence[RawChunk]) -> None:
        try:
            await self._try(raws, lock_timeout=LOCK_PATIENCE if raws[0].hurried else SHORT_PATIENCE)
        except Exception as error:
            CHUNK_RETRIES.labels(self.subscription.group).inc()
            log.info("each chunk is tried alone", group=self.subscription.group, error=describe_bug(error))
            raise

    async def _take_alone(self, lane: Lane, raw: RawChunk, *, counted: bool = False, too_long: int = 0) -> None:
        """`too_long`: how often it has taken too long together with what has been taken, or is taken, apart from it."""
        isolated, unstorable, delay = False, False, 0.05
        suspicion = Suspicion(self.database, self.subscription)
        while True:
            trying = suspicion.trying() if too_long > 0 and len(raw.records) == 1 else nullcontext()
            try:
                # One counted record in hand in the whole process: an innocent one beside it must not be condemned.
                async with trying, self._attempt(raw) if counted else nullcontext(0) as attempts:
                    guilty = KILLER if attempts > ATTEMPTS_MAX else TOO_SLOW if suspicion.is_guilty else None
                    await self._try(
                        [raw],
                        isolated=isolated,
                        fault=UNSTORABLE if unstorable else guilty,
                        is_read=attempts <= ATTEMPTS_MAX + 1,  # to read it may be what it kills with
                        with_care=counted or too_long > 0,
                    )
            except PositionLost:
                raise
            except NoRoom as found:
                before = sum(record.offset < found.offset for record in raw.records)
                if before:
                    raw = await self._take_first(lane, raw, before)
                else:
                    self._tell_full(lane, found.full)
                    await asyncio.sleep(ROOM_WAIT_S)
            except Exception as error:
                lane.retrying_since = lane.retrying_since or monotonic()
                too_long += isinstance(error, TookTooLong)
                was_bare, unstorable = unstorable, False
                if is_transient(error) or isinstance(error, LateConflict):
                    CHUNK_RETRIES.labels(self.subscription.group).inc()
                    log.warning("a chunk is tried again", group=self.subscription.group, error=type(error).__name__)
                    if too_long >= TOO_LONG_MAX and len(raw.records) > 1:
                        return await self._halve(lane, raw, too_long=1)
                elif not isolated:
                    isolated = True
                    continue
                else:
                    BUGS.labels(self.subscription.group).inc()
                    log.error("a chunk cannot be taken", group=self.subscription.group, error=describe_bug(error))
                    if len(raw.records) > 1:
                        return await self._halve(lane, raw)
                    unstorable = not was_bare  # at once, and once: what has healed meanwhile was no event's fault
                await asyncio.sleep(0 if unstorable else delay)
                delay = min(delay * 2, 5.0)
            else:
                lane.retrying_since = lane.full = None
                return None

    def _tell_full(self, lane: Lane, full: Full) -> None:
        if lane.full != full:
            log.error(
                "there is no room to hold an event; its partition waits", group=self.subscription.group, full=full
            )
        lane.full = full

    async def _halve(self, lane: Lane, raw: RawChunk, *, too_long: int = 0) -> None:
        rest = await self._take_first(lane, raw, len(raw.records) // 2, too_long=too_long)
        await self._take_alone(lane, rest, too_long=too_long)

    async def _take_first(self, lane: Lane, raw: RawChunk, count: int, *, too_long: int = 0) -> RawChunk:
        """Take the first records of a chunk; the rest of it."""
        first = raw.records[:count]
        end = first[-1].offset + 1
        await self._take_alone(lane, RawChunk(raw.partition, raw.base, end, first), too_long=too_long)
        lane.taken = end
        return RawChunk(raw.partition, end, raw.end, raw.records[count:])

    async def _try(
        self,
        raws: Sequence[RawChunk],
        *,
        isolated: bool = False,
        fault: Fault | None = None,
        is_read: bool = True,
        with_care: bool = False,
        lock_timeout: str = LOCK_TIMEOUT,
    ) -> None:
        """Take these chunks in one transaction. `fault`: what the first record of each is condemned for, whatever it
        holds; if it is not read, a killer, which is taken by itself."""
        chunks = [self._read_chunk(raw, fault, is_read=is_read) for raw in raws]
        began = monotonic()
        async with self.database.acquire(timeout=30) as connection:
            async with bounded_transaction(connection):
                taken = await take_chunks(
                    connection,
                    self.subscription,
                    chunks,
                    service=self.service,
                    now=self.clock.now,
                    settle_waiting=partial(self.settle_waiting, with_care=with_care),
                    isolated=isolated,
                    room=self.room,
                    lock_timeout=lock_timeout,
                )
            # Whoever waits for it need not wait until the connection is back, and it is counted.
            self.committed(taken.published, taken.answer)
        self._note(taken)
        for chunk in chunks:
            self._count_misplaced(chunk)
        CHUNK_SECONDS.labels(self.subscription.group).observe(monotonic() - began)

    def _read_chunk(self, raw: RawChunk, fault: Fault | None, *, is_read: bool) -> Chunk:
        group, topic = self.subscription.group, self.subscription.topic
        if is_read:
            arrivals = self._read(raw, now=self.clock.now(), wall=wall_now())
        else:
            arrivals = [unread(record, KILLER, group=group, topic=topic) for record in raw.records]
        if fault is not None:
            # A safety group looks at what has a harmless fault; it must not at what kills it.
            arrivals[0].fault = fault if self.subscription.stateless else arrivals[0].fault or fault
        if fault is UNSTORABLE:
            arrivals[0] = without_headers(arrivals[0], group=group, topic=topic)
        return Chunk(raw.partition, raw.base, raw.end, arrivals)

    def _read(self, raw: RawChunk, *, now: datetime, wall: datetime) -> list[Arrival]:
        subscription = self.subscription
        return read_arrivals(
            raw.records, decoder=self.reader.decoder, group=subscription.group, topic=subscription.topic,
            now=now, wall=wall, loosely=subscription.loosely,
        )  # fmt: skip

    def _count_misplaced(self, chunk: Chunk) -> None:
        """A publisher with another partitioner: the members' locks keep the effects exact, but somebody should know."""
        if many := self._partitions:
            hashes = [one.key.hash for one in chunk.arrivals if one.event is not None and one.key is not None]
            WRONG_PARTITION.labels(self.subscription.topic).inc(sum(one % many != chunk.partition for one in hashes))

    @asynccontextmanager
    async def _attempt(self, raw: RawChunk) -> AsyncIterator[int]:
        """Around an attempt that is written down before it is made; how many there were with it. It is taken back where
        it fails or is given up: only one of which nobody heard again tells that its process died of it."""
        partition, offset, is_begun = raw.partition, raw.base, False
        place = (self.subscription.group, self.subscription.topic, partition, offset)
        async with self.one_in_hand.take(hurries=self.subscription.stateless) as in_hand:
            try:
                async with in_hand:
                    async with self.database.acquire(timeout=30) as connection:
                        is_begun, owed = True, self._owed[partition, offset]
                        attempts = await record_attempt(connection, *place, owed=owed)
                    self._owed -= Counter({(partition, offset): owed})
                    yield attempts
            except BaseException:
                if is_begun:
                    await asyncio.shield(self._take_back(*place))
                raise

    async def _take_back(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Where that fails, as when every connection is in use, the next attempt makes up for it. Who dies of a record
        forgets what it owes, so an attempt that killed is never taken back."""
        try:
            async with self.database.acquire(timeout=TAKE_BACK_S) as connection:
                await take_back_attempt(connection, group, topic, partition, offset)
        except Exception:
            self._owed[partition, offset] += 1

    def _note(self, taken: Taken) -> None:
        group, counts = self.subscription.group, taken.counts
        for outcome in Counts.__slots__:
            if value := getattr(counts, outcome):
                RECORDS.labels(group, outcome).inc(value)
        for bug, count in Counter(taken.bugs).items():
            BUGS.labels(group).inc(count)
            log.error("events became dead letters", group=group, bug=bug, count=count)
        if counts.dead and self.subscription.stateless:
            SAFETY_FAILURES.labels(group).inc(counts.dead)
            log.critical("records in which nobody looked for a red flag", group=group, count=counts.dead)
        if self.room is not None:
            self.room.held_bytes += taken.held_bytes
        if taken.published:
            EVENTS_PUBLISHED.labels(group).inc(taken.published)
