"""What is looked after beside the stream: Kafka is told the positions, and a partition whose log, position and poll no
longer agree is noticed although no record of it comes."""

import asyncio
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared.clock import monotonic
from shared.database import is_transient
from shared.intake import UNDELIVERED_CHECKS, Intake
from shared.kafka import load_spans
from shared.lanes import Lane
from shared.positions import load_positions
from shared.telemetry import logger

CHECK_S = 5.0
POSITION_S = 2.0
log = logger("intake")


class Watch:
    """Looks after one intake."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def run(self, _: object) -> None:
        """Until cancelled. Positions are told once a second, best effort: lag metrics read them, nothing else does."""
        told: dict[TopicPartition, int] = {}
        checked = monotonic()
        while True:
            await asyncio.sleep(1)
            if self._intake.gathering is not None:
                self._intake.gathering.note(0)
            offsets = {p: lane.taken for p, lane in self._intake.lanes.items() if told.get(p) != lane.taken}
            if offsets:
                with suppress(KafkaError, RuntimeError, TimeoutError):
                    async with asyncio.timeout(POSITION_S):  # the client would try for as long as its group has no home
                        await self._intake.consumer.commit(offsets)
                    told |= offsets
            if monotonic() - checked > CHECK_S:
                checked = monotonic()
                try:
                    await self._check(dict(self._intake.lanes))
                except Exception as error:
                    if not isinstance(error, KafkaError) and not is_transient(error):
                        raise

    async def _check(self, lanes: dict[TopicPartition, Lane]) -> None:
        """A topic truncated or made anew, a database that was restored, a position that an operator moved: the
        partition is opened again, which pauses it with an alarm where the log does not hold its position."""
        if not lanes:
            return
        group, topic = self._intake.subscription.group, self._intake.subscription.topic
        stood = {partition: lane.taken for partition, lane in lanes.items() if lane.idle}
        async with self._intake.database.acquire(timeout=10) as connection:
            stored = await load_positions(connection, group, topic, [p.partition for p in lanes])
        lanes = {partition: lane for partition, lane in lanes.items() if self._has(lane)}
        spans = await load_spans(self._intake.consumer, list(lanes)) if lanes else {}
        for partition, lane in lanes.items():
            if partition not in spans or not self._has(lane):
                continue
            first, end = spans[partition]
            position = stored.get(partition.partition)
            still = stood.get(partition) == lane.taken and lane.idle
            is_moved = position is None or position.next_offset > end or (still and position.next_offset != lane.taken)
            is_lost = still and lane.taken < first
            if is_moved or is_lost:
                log.warning("the position changed under a partition; opening it again", group=group)
                self._intake.reopen(partition)
            else:
                await self._listen(lane, end, still=still)

    def _has(self, lane: Lane) -> bool:
        """Whether it has not been let go meanwhile, of which the client knows nothing any more."""
        return self._intake.lanes.get(lane.partition) is lane

    async def _listen(self, lane: Lane, end: int, *, still: bool) -> None:
        """Whether the poll brings what the log has."""
        stands = lane.end
        if not still or not await self._is_silent(lane.partition, stands, end):
            lane.silent_checks = 0
            return
        lane.silent_checks = lane.silent_checks + 1 if lane.silent_at == stands else 1
        lane.silent_at = stands
        if lane.silent_checks == UNDELIVERED_CHECKS:
            log.critical("polling brings nothing of a partition", group=self._intake.subscription.group)

    async def _is_silent(self, partition: TopicPartition, stands: int, end: int) -> bool:
        """A transaction's marker is no record: the consumer passes it. One that nobody ends holds up what lies behind
        it, and the end that is told lies before it."""
        if end <= stands:
            return bool((self._intake.consumer.highwater(partition) or 0) > end)
        async with asyncio.timeout(POSITION_S):
            return bool(await self._intake.consumer.position(partition) < end)
