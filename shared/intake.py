"""From a consumer group to transactions: FastStream polls, a bounded lane per partition, a task per lane, one pool.

FastStream gives the subscription, the group, the loop around the poll and the lifespan; records go past it, undecoded.
What is ours is when a chunk is taken, tried again or found guilty. A failure never skips a record: the same chunk
again, from its position.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from shared.clock import monotonic
from shared.consuming import PositionLost
from shared.database import is_transient
from shared.ending import end_tasks
from shared.gathering import Gathering, phase_of
from shared.kafka import BATCH_BYTES, is_over, join_again, load_spans
from shared.lanes import CHUNK_BYTES, Lane
from shared.panics import is_panic
from shared.parking import Room
from shared.positions import Position, count_starts, ensure_positions, load_positions
from shared.settings import ServiceSettings
from shared.taking import ChunkTaker
from shared.telemetry import (
    BUGS,
    PARTITIONS_FULL,
    PARTITIONS_PAUSED,
    PARTITIONS_UNOPENED,
    UNDELIVERED,
    describe_bug,
    logger,
)
from shared.topics import group_name, topic_name

STALLED_STARTS_MAX = 3
"""After so many starts without a committed chunk, records are taken one by one and each attempt is counted."""
POLL_MS, POLL_RECORDS = 500, 2_000
"""How long a poll waits when there is nothing, and how much it brings at most."""
POLL_AGAIN_S = 1.0
"""After a bug of ours, or of the client, in a poll."""
AGAIN_S, AGAIN_MAX_S = 0.5, 5.0
"""Until a partition that failed is opened again, longer each time."""
STUCK_S = 10.0
"""What has failed for so long makes the service not ready: to open a partition, or a chunk."""
ENDLESS_S = 90.0
"""A chunk that is in hand for longer and has not failed waits for what may never come: what the database is asked for
ends or fails sooner."""
UNDELIVERED_CHECKS = 4
"""So many checks in a row (shared/watching.py) the log must be ahead of a poll that brings nothing."""
DRAIN_S = 5.0
"""How long a revoked partition may finish the chunk in hand."""
log = logger("intake")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group stands in a partition, and the first and the end offset of the log."""

    position: Position
    first: int
    end: int


Places: TypeAlias = dict[TopicPartition, Place]


class Intake(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One subscription of one process."""

    def __init__(self, taker: ChunkTaker, settings: ServiceSettings) -> None:
        self._taker, self._settings = taker, settings
        self.subscription, self.database = taker.subscription, taker.database
        self.assigned_once = self._has_ended = False
        self.paused_by_alarm: set[TopicPartition] = set()
        self.lanes: dict[TopicPartition, Lane] = {}
        self.room = taker.room = Room(events_max=settings.parked_events_max, bytes_max=settings.parked_bytes_max)
        self.others: Sequence[Intake] = ()
        """Of groups of this process that read the same topic and fetch less often: they hear of what comes here."""
        group = self.subscription.group
        PARTITIONS_PAUSED.labels(group).set_function(lambda: len(self.paused_by_alarm))
        PARTITIONS_FULL.labels(group).set_function(lambda: len(self.full()))
        UNDELIVERED.labels(group).set_function(lambda: len(self.undelivered()))
        PARTITIONS_UNOPENED.labels(group).set_function(lambda: len(self.unopened()))
        self._background: set[asyncio.Task[None]] = set()
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._closed_since: dict[TopicPartition, float] = {}
        """Machine time since which an assigned partition is not open."""
        self._refused_since: float | None = None
        """Machine time since which Kafka has refused each poll with what to ask again does not mend."""
        self._subscriber: Any = None
        self.gathering: Gathering | None = None
        # Records and bytes with which a lane's partition is paused, and with less than which it goes on.
        self._high = settings.chunk_records * 3, CHUNK_BYTES * 2
        self._low = settings.chunk_records * 2, CHUNK_BYTES

    def subscribe(self, broker: KafkaBroker) -> None:
        """Declare the subscription on the broker; it runs when the broker starts."""

        self._subscriber = broker.subscriber(
            topic_name(self._settings.namespace, self.subscription.topic),
            group_id=group_name(self._settings.namespace, self.subscription.group),
            batch=True,
            max_partition_fetch_bytes=BATCH_BYTES,
            session_timeout_ms=self._settings.session_timeout_s * 1000,
            heartbeat_interval_ms=min(3_000, self._settings.session_timeout_s * 1000 // 3),
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.MANUAL,
            listener=self,
        )

        @self._subscriber  # type: ignore[untyped-decorator]
        async def unused(_: Any) -> None:
            """A subscription needs one; `_poll` leaves nothing to it."""

        self._subscriber.get_msg = self._poll

    @property
    def consumer(self) -> Any:
        return self._subscriber.consumer

    # -- the poll side: waits for no transaction

    async def _poll(self, consumer: Any) -> Sequence[ConsumerRecord]:
        """Instead of FastStream's own, which sleeps for as long as it has waited whenever nothing came: what comes
        meanwhile would wait as well. Records go to their lanes from here, and none is left for FastStream, whose way
        to a handler costs more than that. Raises what the client raises; FastStream's loop knows what to do."""
        try:
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            self._refused_since = None
            if self.gathering:
                self.gathering.note(sum(map(len, found.values())))
            self._receive(found)
        except ConsumerStoppedError:
            raise
        except Exception as error:
            self._seek_again()
            join_again(self.consumer)
            if isinstance(error, KafkaError):
                if not error.retriable:
                    self._refused_since = self._refused_since or monotonic()
                raise
            BUGS.labels(self.subscription.group).inc()
            log.error("a poll failed", group=self.subscription.group, error=describe_bug(error))
            await asyncio.sleep(POLL_AGAIN_S)
        return ()

    def _seek_again(self) -> None:
        """A poll that failed may have taken records of one partition from the client before another one failed."""
        for partition, lane in self.lanes.items():
            with suppress(KafkaError):  # it has just been revoked
                self.consumer.seek(partition, lane.end)

    def _receive(self, found: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        for partition, batch in found.items():
            lane = self.lanes.get(partition)
            if lane is None:
                continue  # polled before its position was sought
            offered = lane.offer(batch)
            if offered == "again":
                self.consumer.seek(partition, lane.end)
            elif offered == "ask":
                self.consumer.pause(partition)
                self._background.add(asyncio.create_task(self._judge_gap(partition, lane, batch)))
            elif lane.holds(*self._high):
                self.consumer.pause(partition)  # a slow partition stops only itself
            for other in self.others:
                other.hear_of(partition, batch)

    def hear_of(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Another group has received these. Where one may not wait in this group, it is fetched now, and not only when
        its fetch has waited for company."""
        lane = self.lanes.get(partition)
        if lane is not None and self.gathering is not None and lane.misses(records):
            self.gathering.hurry()

    async def _judge_gap(self, partition: TopicPartition, lane: Lane, batch: list[ConsumerRecord]) -> None:
        """A fresh fetch begins after the lane's end. Transactions leave such gaps; but where the log no longer holds
        the lane's end, retention has overtaken a reader that was too slow, and the client has moved on by itself."""
        self._background = {task for task in self._background if not task.done()}
        try:
            first = (await self.consumer.beginning_offsets([partition]))[partition]
        except Exception as error:  # whatever it is: nobody else lets a paused partition go on
            first = None
            log.warning("a gap is fetched once more", group=self.subscription.group, error=describe_bug(error))
        if self.lanes.get(partition) is not lane:
            return
        if first is None:
            self.consumer.seek(partition, lane.end)
        elif first > lane.end:
            self.reopen(partition)
            return
        else:
            lane.offer(batch, gap_judged=True)
        self.consumer.resume(partition)

    # -- assignment

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.gathering = self.gathering or Gathering(
            self.consumer._fetcher, gather_ms=self.subscription.gather_ms, phase_s=phase_of(self.subscription.group)
        )
        if (partitions := list(assigned)) and not self._has_ended:
            self.consumer.pause(*partitions)
            together = asyncio.create_task(self._locate(partitions, count_start=True))
            for partition in partitions:
                self._tasks[partition] = asyncio.create_task(self._own(partition, together))
        self.assigned_once = True

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self.release(list(revoked))

    async def release(self, partitions: Iterable[TopicPartition]) -> None:
        """Let each chunk in hand end, within a bound, then stop. FastStream does not call the listener when it stops:
        shutdown calls this itself."""
        ending = []
        for partition in partitions:
            self.lanes.pop(partition, None)
            self.paused_by_alarm.discard(partition)
            self._closed_since.pop(partition, None)
            task = self._tasks.pop(partition, None)
            if task is not None:
                task.cancel()
                ending.append(task)
        await end_tasks(ending, after_s=DRAIN_S + 1, within_s=DRAIN_S)

    async def release_all(self) -> None:
        """Release every partition, also those whose position is still being looked for, and take no other."""
        self._has_ended = True
        await self.release(list(self._tasks))

    async def _own(self, partition: TopicPartition, located: "asyncio.Task[Places] | None" = None) -> None:
        """Own a partition until it is revoked: find the position, seek, take chunk after chunk; again after a gap.
        `located` asks for all partitions of an assignment at once; whoever starts again asks for itself."""
        group, delay = self.subscription.group, AGAIN_S
        while self._tasks.get(partition) is asyncio.current_task():
            self._closed_since.setdefault(partition, monotonic())
            try:
                asked, located = located, None
                place = (await asyncio.shield(asked)).get(partition) if asked is not None else None
                lane = await self._open_lane(partition, place)
                delay = AGAIN_S
                await self._run_lane(lane)
            except PositionLost as error:
                log.warning("position lost; seeking again", group=group, reason=str(error))
            except BaseException as error:
                if not isinstance(error, Exception) and not is_panic(error):
                    raise
                if is_transient(error) or isinstance(error, KafkaError):
                    log.warning("a partition is opened again", group=group, error=type(error).__name__, in_s=delay)
                else:
                    BUGS.labels(group).inc()
                    log.exception("a partition stopped", group=group, error=describe_bug(error))
            finally:
                if self._tasks.get(partition) is asyncio.current_task():  # who takes it away takes the lane away
                    self.lanes.pop(partition, None)
            await asyncio.sleep(delay)
            delay = min(2 * delay, AGAIN_MAX_S)

    async def _locate(self, partitions: Sequence[TopicPartition], *, count_start: bool = False) -> Places:
        """Where the group stands in these partitions and what the log holds of them; without those of which no broker
        tells."""
        group, topic = self.subscription.group, self.subscription.topic
        spans = await load_spans(self.consumer, partitions)
        async with self.database.acquire(timeout=30) as connection:
            await ensure_positions(connection, group, topic, {p.partition: first for p, (first, _) in spans.items()})
            stored = await load_positions(connection, group, topic, [p.partition for p in spans])
            pending = [p.partition for p, (_, end) in spans.items() if stored[p.partition].next_offset < end]
            if count_start and pending:
                await count_starts(connection, group, topic, pending)
        return {p: Place(stored[p.partition], first, end) for p, (first, end) in spans.items()}

    async def _open_lane(self, partition: TopicPartition, place: "Place | None") -> Lane:
        """Seek to the stored position. OffsetOutOfRangeError while that lies outside the log: an operator decides."""
        self.consumer.pause(partition)
        place = place or (await self._locate([partition])).get(partition)
        if self._tasks.get(partition) is not asyncio.current_task():
            raise asyncio.CancelledError  # revoked meanwhile, and the cancellation was lost on the way
        if place is None:
            raise KafkaTimeoutError(partition)
        position = place.position
        if not place.first <= position.next_offset <= place.end:
            self.paused_by_alarm.add(partition)
            log.error(
                "the stored position lies outside the log; the partition is paused until an operator sets it",
                group=self.subscription.group,
                partition=partition.partition,
                stored=position.next_offset,
                first=place.first,
                end=place.end,
            )
            raise OffsetOutOfRangeError(partition)
        self.paused_by_alarm.discard(partition)
        lane = Lane(
            partition,
            start=position.next_offset,
            cautious=position.stalled_starts >= STALLED_STARTS_MAX,
            patient=self.subscription.patient,
        )
        self.consumer.seek(partition, lane.end)
        self.lanes[partition] = lane
        self._closed_since.pop(partition, None)
        self.consumer.resume(partition)
        return lane

    async def _run_lane(self, lane: Lane) -> None:
        singles = self._settings.chunk_records if lane.cautious else 0
        while self.lanes.get(lane.partition) is lane:  # a cancellation can be lost on its way
            limit = 1 if singles else self._settings.chunk_records
            chunk = await lane.next_chunk(limit, patience=self._patience)
            partitions = len(self.consumer.partitions_for_topic(lane.partition.topic) or ())
            lane.in_hand_since = monotonic()
            taking = asyncio.ensure_future(self._taker.take(lane, chunk, counted=bool(singles), partitions=partitions))
            try:
                await asyncio.shield(taking)
            except asyncio.CancelledError:
                with suppress(Exception):
                    await asyncio.wait_for(taking, DRAIN_S)
                raise
            lane.taken, lane.in_hand_since = chunk.end, None
            singles = max(0, singles - 1)
            if not lane.holds(*self._low) and lane.partition in self.consumer.paused():
                self.consumer.resume(lane.partition)

    def _patience(self) -> float:
        return self.gathering.patience_s() if self.gathering is not None else 0.0

    def reopen(self, partition: TopicPartition) -> None:
        """Begin again at the stored position of a partition that is still assigned. The chunk in hand may end beside
        that: the position's lock keeps the two apart."""
        if (task := self._tasks.get(partition)) is not None:
            self.lanes.pop(partition, None)
            task.cancel()
            self._tasks[partition] = asyncio.create_task(self._own(partition))

    # -- for readiness

    def opening(self) -> int:
        """Partitions assigned whose position is not sought yet; one where nothing was ever assigned."""
        return len(self._tasks) - len(self.lanes) if self.assigned_once else 1

    def unopened(self) -> list[TopicPartition]:
        """Partitions that could not be opened for long, but for those that wait for an operator."""
        long_ago = monotonic() - STUCK_S
        return [p for p, since in self._closed_since.items() if since < long_ago and p not in self.paused_by_alarm]

    def undelivered(self) -> list[TopicPartition]:
        """Partitions that polling does not deliver, such as after a batch that the client cannot read."""
        return [p for p, lane in self.lanes.items() if lane.silent_checks >= UNDELIVERED_CHECKS]

    def polling_ended(self) -> bool:
        """Whether FastStream's poll loop has ended although it should run, or the client polls in vain."""
        ended = any(task.done() for task in getattr(self._subscriber, "tasks", ()))
        return ended or is_over(getattr(self._subscriber, "consumer", None))

    def refused_for_s(self) -> float:
        """How long Kafka has refused each poll: what it says of a group that does not let this process in, or of a
        topic that it may not read. Without partitions nothing else here would tell."""
        return 0.0 if self._refused_since is None else monotonic() - self._refused_since

    def full(self) -> list[str]:
        """What is full, for each partition that waits for room to hold an event."""
        return [lane.full for lane in self.lanes.values() if lane.full is not None]

    def endless(self) -> list[TopicPartition]:
        """Partitions whose chunk neither ended nor failed for long."""
        long_ago = monotonic() - ENDLESS_S
        quiet = {p: lane for p, lane in self.lanes.items() if lane.retrying_since is None and lane.full is None}
        return [p for p, lane in quiet.items() if lane.in_hand_since is not None and lane.in_hand_since < long_ago]

    def stuck_since(self) -> float | None:
        """Machine time since which some chunk has been failing, or None."""
        times = [lane.retrying_since for lane in self.lanes.values() if lane.retrying_since is not None]
        return min(times, default=None)


def introduce(intakes: Sequence[Intake]) -> None:
    """Safety groups hear of what a quicker group of their topic receives, so that they need not fetch as often for a
    red flag not to wait."""
    safety = [one for one in intakes if one.subscription.stateless]
    for intake in intakes:
        topic, gather_ms = intake.subscription.topic, intake.subscription.gather_ms
        intake.others = [o for o in safety if o.subscription.topic == topic and o.subscription.gather_ms > gather_ms]
