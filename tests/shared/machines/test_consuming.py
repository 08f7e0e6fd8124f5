"""Inbox, parking, waiting and replay against a clinic in memory: whatever comes, in whatever order and chunks."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.clock import wall_now
from shared.consuming import PositionLost
from shared.dead_letters import Bench, Step, discard, replay
from shared.events import PainReported
from shared.events.codec import encode
from tests.shared.delivery.books import GROUP, JOINING, Books, Record
from tests.shared.delivery.operating import OLD_PAIN, readers, upcast_pain
from tests.shared.delivery.probe import MEMBERS, ProbeBug, pain, paused
from tests.shared.machines.clinic_in_memory import BUG, REFUSED, WAITS, Clinic, Told
from tests.shared.machines.on_database import Stage, explore

PEOPLE = [UUID(int=number + 1, version=4) for number in range(2)]
members = st.integers(0, len(PEOPLE) - 1)
identities = st.sampled_from("abcdefghijklmnop")
scores = st.sampled_from([1, 2, 3, REFUSED, WAITS, WAITS, BUG])
told = st.builds(Told, identity=identities, member=members, score=scores)
published = st.one_of(
    told,
    told,
    st.builds(Told, identity=identities, member=members, score=scores, is_readable=st.just(False)),
    st.builds(Told, identity=identities, member=st.just(0), score=scores, key=st.just(1)),
)
SIDE_BY_SIDE = [
    st.builds(Told, identity=st.sampled_from(own), member=st.just(member), score=scores, is_readable=st.booleans())
    for member, own in enumerate(("abcdefgh", "ijklmnop"))
]
TIME = wall_now()


class Consuming(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.clinic = stage, Clinic()
        self.books = Books(stage.pool)
        self.log: dict[int, list[Record]] = {0: [], 1: []}

    @initialize()
    def begin(self) -> None:
        self.stage.run(self.books.open())

    @rule(chunk=st.lists(published, min_size=2, max_size=8), partition=st.integers(0, 1))
    def take(self, chunk: list[Told], partition: int) -> None:
        records = [self._write(one, partition) for one in chunk]
        self.log[partition] += records
        self.stage.run(self._take(records))
        self.clinic.take_chunk(chunk)

    @rule(chunks=st.tuples(*(st.lists(of, min_size=1, max_size=4) for of in SIDE_BY_SIDE)))
    def take_side_by_side(self, chunks: tuple[list[Told], list[Told]]) -> None:
        """What comes in both partitions at once: in one transaction, and where that raises, each alone. Each has a
        member and identities of its own, as partitions do: no order between them is promised."""
        records = [[self._write(one, partition) for one in chunk] for partition, chunk in enumerate(chunks)]
        for partition, taken in enumerate(records):
            self.log[partition] += taken
        self.stage.run(self.books.take_side_by_side(*records))
        for chunk in chunks:
            self.clinic.take_chunk(chunk)

    @precondition(lambda self: self.log[0])
    @rule(data=st.data())
    def take_out_of_turn(self, data: st.DataObject) -> None:
        """An owner that was stopped wakes when others have long gone on; and a chunk comes whose last one was lost."""
        first, base = data.draw(st.integers(0, len(self.log[0]) - 1)), self.books.bases[GROUP, 0]
        self.books.bases[GROUP, 0] = first
        taken = self.stage.run(self.books.take(*self.log[0][first:]))
        assert taken.counts.read == 0
        self.books.bases[GROUP, 0] = base + 1
        with pytest.raises(PositionLost):
            self.stage.run(self.books.take(Record(0, base + 1, None, None, 0)))
        self.books.bases[GROUP, 0] = base

    @rule(member=members)
    def join(self, member: int) -> None:
        record = self.books.write(paused(PEOPLE[member]), topic=MEMBERS)
        self.stage.run(self.books.take(record, group=JOINING))
        self.clinic.join(member)

    @precondition(lambda self: sum(map(len, self.log.values())) > 8)
    @rule(what=st.sampled_from(["handler", "reader"]))
    def mend(self, what: str) -> None:
        if what == "reader":
            self.books.readers = readers({OLD_PAIN: upcast_pain})
            self.clinic.is_mended = True
        elif not self.clinic.is_fixed:
            self.stage.run(self.books.fix())
            self.clinic.is_fixed = True

    @precondition(lambda self: any(self.clinic.queues.values()))
    @rule(data=st.data(), action=st.sampled_from([replay, replay, discard]))
    def operate(self, data: st.DataObject, action: Callable[..., Awaitable[Step]]) -> None:
        member = data.draw(st.sampled_from([member for member, queue in self.clinic.queues.items() if queue]))
        self.stage.run(self._operate(member, action))
        (self.clinic.replay if action is replay else self.clinic.discard)(member)

    @invariant()
    def effects_are_those_of_the_clinic(self) -> None:
        seen = {number: self.stage.run(self.books.effects(person)) for number, person in enumerate(PEOPLE)}
        assert seen == {number: self.clinic.effects.get(number, []) for number in seen}

    @invariant()
    def queues_are_those_of_the_clinic(self) -> None:
        held = self.stage.run(self.books.held())
        queued: dict[int, list[str]] = {number: [] for number in range(len(PEOPLE))}
        for row in held:
            if row["blocks"]:
                queued[PEOPLE.index(row["member_id"])].append(row["state"])
        assert queued == {n: [entry.state for entry in self.clinic.queues.get(n, [])] for n in queued}
        assert sum(not row["blocks"] for row in held) == self.clinic.alone

    @invariant()
    def what_was_decided_is_published_in_its_order(self) -> None:
        said = [(event["subject"], event["data"]["score"]) for event in self.stage.run(self.books.published())]
        for number, person in enumerate(PEOPLE):
            assert [s for who, s in said if who == str(person)] == self.clinic.effects.get(number, [])

    @invariant()
    def positions_are_at_the_end(self) -> None:
        find = "select partition, next_offset from delivery.positions where consumer_group = $1"
        rows = self.stage.run(self.stage.pool.fetch(find, GROUP))
        assert {row["partition"]: row["next_offset"] for row in rows} in ({}, {p: len(r) for p, r in self.log.items()})

    def _write(self, one: Told, partition: int) -> Record:
        event = self._event(one)
        key = PEOPLE[one.member if one.key is None else one.key]
        return self.books.write_raw(event, key=key, partition=partition)

    def _event(self, one: Told) -> bytes:
        event: PainReported = pain(PEOPLE[one.member], one.score, event_id=one.identity)
        value = encode(event.model_copy(update={"time": TIME}))
        if one.is_readable:
            return value
        raw = orjson.loads(value)
        raw["data"]["vas"] = raw["data"].pop("score")
        return orjson.dumps({**raw, "type": OLD_PAIN})

    async def _take(self, records: Sequence[Record]) -> None:
        """As the runtime does: together, and where that raises, once more in isolation."""
        try:
            await self.books.take(*records)
        except ProbeBug:
            await self.books.take(*records, isolated=True)

    async def _operate(self, member: int, action: Callable[..., Awaitable[Step]]) -> None:
        (head, *_) = [row for row in await self.books.held() if row["blocks"] and row["member_id"] == PEOPLE[member]]
        async with self.books.transaction() as connection:
            bench = Bench(readers=self.books.readers, service="probe", now=wall_now())
            await action(connection, head["held_id"], bench)


def test_whatever_comes_the_books_are_those_of_a_clinic_in_memory(probe_books: str) -> None:
    explore(Consuming, probe_books)
