"""What the relay picks, from a real outbox, against a Kafka in memory that fails, refuses and is slow as it likes."""

import asyncio
from collections.abc import Container, Sequence
from typing import Any
from unittest.mock import patch
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared import backoff, relay
from shared.backoff import Backoff
from shared.database import Database
from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of
from shared.relay import GIVE_BACK_LEASE, HOLD_LEASE, LEASE_S, Outflow
from shared.sending import Sent
from shared.settings import ServiceSettings
from shared.writing import write
from tests.shared.machines.on_database import Stage, explore, open_stage

PEOPLE = [UUID(int=number + 1, version=4) for number in range(5)]
TOPICS = ("careloop.plans", "careloop.visits")
PARTITIONS = 2
members, topics = st.sampled_from(PEOPLE), st.sampled_from(TOPICS)
places = st.tuples(topics, st.integers(0, PARTITIONS - 1))


class Kafka:
    """In the place of the relay's sender: takes rows, or fails as its promises allow."""

    def __init__(self) -> None:
        self.log: list[tuple[str, UUID, bytes]] = []
        self.failing: set[tuple[str, int]] = set()
        self.slow: set[tuple[str, int]] = set()
        self.refusing: set[UUID] = set()
        self.missing: set[str] = set()
        self.lost_acks = 0
        self.woken = asyncio.Event()

    def wake(self) -> None:
        """Whoever is slow looks again."""
        self.woken.set()
        self.woken = asyncio.Event()

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def count_partitions(self, topic: str) -> int:
        if topic.split(".", 1)[1] in self.missing:
            raise UnknownTopicOrPartitionError(topic)
        return PARTITIONS

    async def send(
        self,
        place: TopicPartition,
        rows: Sequence[asyncpg.Record],
        sent: Sent,
        *,
        apart: bool,
        suspects: Container[UUID],
    ) -> None:
        topic = place.topic.split(".", 1)[1]
        while (topic, place.partition) in self.slow:
            await self.woken.wait()
        in_order = sorted(rows, key=lambda row: row["member_id"] in suspects)
        for count, row in enumerate(in_order):
            if (topic, place.partition) in self.failing and count >= 1:
                raise KafkaError
            if row["member_id"] in self.refusing or row["member_id"] in sent.refused:
                sent.refused[row["member_id"]] = "refused"
                continue
            self.log.append((topic, row["member_id"], row["value"]))
            if self.lost_acks:
                self.lost_acks -= 1
                raise KafkaError
            sent.acknowledged.append(row)
        if (topic, place.partition) in self.failing:
            raise KafkaError


class Relaying(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.at = stage, 1_000.0
        self.written: list[tuple[str, UUID, bytes]] = []
        self.patches: list[Any] = [patch.object(module, "monotonic", lambda: self.at) for module in (backoff, relay)]
        self.patches += (patch.object(relay, "PATIENCE_S", 0.002), patch.object(relay, "IDLE_S", 0.001))
        for patched in self.patches:
            patched.start()
        self.stage.run(self._open())

    async def _open(self) -> None:
        self.kafka = Kafka()
        settings = ServiceSettings(database_url="postgresql://not.used", namespace="test", port=0)
        self.outflows = [Outflow(settings, self.stage.pool, urgent=False, is_leading=lambda: True) for _ in range(2)]
        for outflow in self.outflows:
            outflow._sender = self.kafka  # type: ignore[assignment]

    def teardown(self) -> None:
        self.stage.run(self._close())
        for patched in self.patches:
            patched.stop()

    @rule(rows=st.lists(st.tuples(topics, members), min_size=1, max_size=6))
    def decide(self, rows: list[tuple[str, UUID]]) -> None:
        new = [(topic, member, str(len(self.written) + n).encode()) for n, (topic, member) in enumerate(rows)]
        self.stage.run(write(self.stage.pool, [inserting_rows([OutboxRow(*row, key_of(row[1]).hash) for row in new])]))
        self.written += new
        self.outflows[0].wake()  # the other replica does not hear of it

    @rule(
        rounds=st.lists(st.sampled_from([0, 0, 0, 1]), min_size=1, max_size=4), passed=st.sampled_from([0.0, 0.6, 70.0])
    )
    def hand_over(self, rounds: list[int], passed: float) -> None:
        """Rounds of a relay; some of another replica that believes that it leads. Time passes after each."""
        for which in rounds:
            self.stage.run(self.outflows[which]._round())
            self.at += passed

    @rule(what=st.one_of(places, members, members, topics, st.none()))
    def trouble(self, what: tuple[str, int] | UUID | str | None) -> None:
        """A partition fails or is slow, a member's event is refused, a topic is not there, or no longer; an
        acknowledgement is lost."""
        if isinstance(what, UUID):
            self.kafka.refusing ^= {what}
        elif isinstance(what, str):
            self.kafka.missing ^= {what}
        elif what is None:
            self.kafka.lost_acks += 1
        else:
            # Well, failing, slow, and well again.
            was_failing = what in self.kafka.failing
            is_well = not was_failing and what not in self.kafka.slow
            self.kafka.failing = self.kafka.failing | {what} if is_well else self.kafka.failing - {what}
            self.kafka.slow = self.kafka.slow | {what} if was_failing else self.kafka.slow - {what}
            self.kafka.wake()

    @invariant()
    def each_members_events_arrive_in_the_order_decided(self) -> None:
        """Seen by a reader that drops what it has taken before."""
        for member in PEOPLE:
            for topic in TOPICS:
                arrived = list(dict.fromkeys(v for t, m, v in self.kafka.log if (t, m) == (topic, member)))
                decided = [v for t, m, v in self.written if (t, m) == (topic, member)]
                assert arrived == decided[: len(arrived)]

    @invariant()
    def what_has_not_arrived_is_still_in_the_outbox(self) -> None:
        rows = self.stage.run(self.stage.pool.fetch("select value from delivery.outbox"))
        arrived = {value for _, _, value in self.kafka.log}
        assert {value for _, _, value in self.written} <= arrived | {row["value"] for row in rows}

    async def _close(self) -> None:
        """All is well again: then everything arrives, and nothing is left."""
        for trouble in (self.kafka.failing, self.kafka.slow, self.kafka.refusing, self.kafka.missing):
            trouble.clear()
        self.kafka.lost_acks = 0
        self.kafka.wake()
        for _ in range(200):
            self.at += 61.0
            await self.outflows[0]._round()
            await self.outflows[1]._round()
            if not await self.stage.pool.fetchval("select count(*) from delivery.outbox"):
                break
        for outflow in self.outflows:
            await outflow.close()
        assert {value for _, _, value in self.kafka.log} == {value for _, _, value in self.written}
        assert await self.stage.pool.fetchval("select count(*) from delivery.outbox") == 0


def test_whatever_kafka_does_each_members_events_arrive_once_in_order(probe_books: str) -> None:
    explore(Relaying, probe_books)


class Holding(Kafka):
    """One that answers nobody until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[int] = []
        self.may_answer = asyncio.Event()

    async def send(self, place: TopicPartition, rows: Sequence[asyncpg.Record], sent: Sent, **_: Any) -> None:
        self.began.append(place.partition)
        await self.may_answer.wait()
        sent.acknowledged += rows


def test_nothing_of_a_partition_is_sent_beside_what_is_on_its_way(probe_books: str) -> None:
    """Also of rows without a hash, as an earlier release wrote them: the statement cannot pass over those."""
    with open_stage(probe_books) as stage:
        stage.empty()
        stage.run(send_beside(stage.pool))


async def send_beside(pool: Database) -> None:
    settings = ServiceSettings(database_url="postgresql://not.used", namespace="test", port=0)
    kafka, outflow = Holding(), Outflow(settings, pool, urgent=False, is_leading=lambda: True)
    outflow._sender = kafka  # type: ignore[assignment]
    outflow._partitions = {TOPICS[0]: 1}
    await write(pool, [inserting_rows([OutboxRow(TOPICS[0], member, b"{}", 0) for member in PEOPLE])])
    await pool.execute("update delivery.outbox set key_hash = null")
    try:
        for _ in range(3):
            await outflow._round()
            assert kafka.began == [0]
        kafka.may_answer.set()
        await asyncio.wait(outflow._sending.values(), timeout=20)
        await outflow._round()
        assert await pool.fetchval("select count(*) from delivery.outbox") == 0
        assert kafka.began == [0]
    finally:
        await outflow.close()


class Lease(RuleBasedStateMachine):
    """At most one replica leads, and one that is gone does so no longer than its lease."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.leader: UUID | None = None

    @rule(replica=members)
    def ask(self, replica: UUID) -> None:
        granted = bool(self.stage.run(self.stage.pool.fetchval(HOLD_LEASE, replica, LEASE_S * 1_000)))
        assert granted == (self.leader in (None, replica))
        if granted:
            self.leader = replica

    @rule(replica=members)
    def give_back(self, replica: UUID) -> None:
        self.stage.run(self.stage.pool.execute(GIVE_BACK_LEASE, replica))
        if self.leader == replica:
            self.leader = None

    @rule()
    def lapse(self) -> None:
        """Whoever leads has not asked again for as long as the lease was granted."""
        past = "update delivery.relay_lease set expires_at = clock_timestamp() - interval '1 second'"
        self.stage.run(self.stage.pool.execute(past))
        self.leader = None


def test_one_replica_leads_at_a_time(probe_books: str) -> None:
    explore(Lease, probe_books)


class Backing(RuleBasedStateMachine):
    """What has failed is left alone for a while, each at its own pace, twice as long each time."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 50.0
        self.backoff: Backoff[int] = Backoff(first_s=1.0, most_s=8.0)
        self.failed: dict[int, tuple[float, int]] = {}
        self.clock = patch.object(backoff, "monotonic", lambda: self.at)
        self.clock.start()

    def teardown(self) -> None:
        self.clock.stop()

    @rule(key=st.integers(0, 3))
    def fail(self, key: int) -> None:
        times = self.failed[key][1] + 1 if key in self.failed else 1
        delay = min(8.0, 2.0 ** (times - 1))
        assert self.backoff.fail(key) == delay
        self.failed[key] = (self.at + delay, times)

    @rule(key=st.integers(0, 3))
    def succeed(self, key: int) -> None:
        self.backoff.succeed(key)
        self.failed.pop(key, None)

    @rule(passed=st.sampled_from([0.5, 1.0, 3.0, 20.0]))
    def let_time_pass(self, passed: float) -> None:
        self.at += passed

    @invariant()
    def waits_for_those_whose_time_has_not_come(self) -> None:
        assert self.backoff.waiting() == {key for key, (until, _) in self.failed.items() if until > self.at}
        assert {key for key in range(4) if key in self.backoff} == set(self.failed)
        assert len(self.backoff) == len(self.failed)


TestBackingOff = Backing.TestCase
