"""Timers against a table in memory: set, moved, cancelled, due, failing, held up, rolled back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shared.clock import wall_now
from shared.database import Connection
from shared.events import MemberPaused
from shared.events.members import MemberPausedData
from shared.member_locks import lock_members
from shared.outcomes import Cause, Outcomes, Timer
from shared.suspect_timers import FAILURES_MAX, Caution
from shared.timers import cancel_member_timers, cancel_timers, run_timers, save_timers
from tests.shared.machines.on_database import Stage, explore

PEOPLE = [UUID(int=number + 1, version=4) for number in range(3)]
START = wall_now()
CAUSE = Cause(source="urn:test", id="cause", chain="chain")
keys = st.sampled_from("abcd")
members = st.sampled_from(PEOPLE)
minutes = st.integers(-3, 2)


@dataclass
class Row:
    member: UUID
    due_at: datetime
    failures: int = 0
    is_pausing: bool = False
    """It failed a moment ago."""


class RolledBack(Exception):
    pass


class Timers(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.now = stage, START
        self.rows: dict[str, Row] = {}
        self.bad: set[str] = set()
        self.ran: list[str] = []
        self.told: list[str] = []

    @rule(timers=st.lists(st.tuples(keys, members, minutes), min_size=1, max_size=4))
    def set_timers(self, timers: list[tuple[str, UUID, int]]) -> None:
        rows = {key: Row(member, self.now + timedelta(minutes=ahead)) for key, member, ahead in timers}
        self.stage.run(self._save([
            Timer(kind="probe", key=key, member_id=row.member, due_at=row.due_at, cause=CAUSE)
            for key, row in rows.items()
        ]))  # fmt: skip
        self.rows |= rows

    @rule(key=keys, member=members, one=st.booleans())
    def cancel(self, key: str, member: UUID, one: bool) -> None:
        """One by its key, or all of a member."""

        async def work() -> None:
            async with self.stage.pool.acquire() as connection:
                if one:
                    await cancel_timers(connection, kind="probe", keys=[key])
                else:
                    await cancel_member_timers(connection, kinds=["probe"], member_ids=[member])

        self.stage.run(work())
        self.rows = {k: row for k, row in self.rows.items() if (k != key if one else row.member != member)}

    @rule(key=keys)
    def break_or_mend(self, key: str) -> None:
        self.bad ^= {key}

    @rule(passed=st.integers(0, 2))
    def let_time_pass(self, passed: int) -> None:
        """Of the clinic and, for those that pause after a failure, of the machine."""
        self.now += timedelta(minutes=passed)
        self.stage.run(self.stage.pool.execute("update delivery.timers set retry_at = clock_timestamp()"))
        for row in self.rows.values():
            row.is_pausing = False

    @rule(held=st.sets(members, max_size=1), is_cut=st.sampled_from([False, False, True]))
    def run_due(self, held: set[UUID], is_cut: bool) -> None:
        """`held`: members in somebody else's hands meanwhile. `is_cut`: the transaction does not commit."""
        ran, told = list(self.ran), list(self.told)
        due = self._due(held)
        try:
            self.stage.run(self._run(held, is_cut))
        except RolledBack:
            self.ran, self.told = ran, told
            return
        good = [key for key in due if key not in self.bad]
        assert sorted(self.ran[len(ran) :]) == sorted(good), "each that is due, once"
        self.told += good
        for key in due:
            if key in self.bad:
                self.rows[key].failures += 1
                self.rows[key].is_pausing = True
            else:
                del self.rows[key]

    @invariant()
    def rows_are_those_in_memory(self) -> None:
        found = self.stage.run(self.stage.pool.fetch("select key, member_id, due_at, failures from delivery.timers"))
        seen = {row["key"]: (row["member_id"], row["due_at"], row["failures"]) for row in found}
        assert seen == {key: (row.member, row.due_at, row.failures) for key, row in self.rows.items()}

    @invariant()
    def each_that_ran_has_told_so_once(self) -> None:
        assert self.stage.run(self.stage.pool.fetchval("select count(*) from delivery.outbox")) == len(self.told)

    def _due(self, held: set[UUID]) -> list[str]:
        return [
            key
            for key, row in self.rows.items()
            if row.due_at <= self.now and row.failures < FAILURES_MAX and not row.is_pausing and row.member not in held
        ]

    async def _save(self, timers: list[Timer]) -> None:
        async with self.stage.pool.acquire() as connection, connection.transaction():
            await lock_members(connection, [timer.member_id for timer in timers])
            await save_timers(connection, timers)

    async def _run(self, held: set[UUID], is_cut: bool) -> None:
        async def nothing_waits(*_: Any, **__: Any) -> int:
            return 0

        async with self.stage.pool.acquire() as other, other.transaction():
            await lock_members(other, held)
            async with self.stage.pool.acquire() as connection, connection.transaction():
                await run_timers(
                    connection, {"probe": self._handle}, service="probe", now=self.now, settle_waiting=nothing_waits,
                    caution=Caution(),
                )  # fmt: skip
                if is_cut:
                    raise RolledBack

    async def _handle(self, connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
        outcomes: Any = Outcomes()
        if any(timer.key in self.bad for timer in timers):
            raise ValueError
        for timer in timers:
            outcomes.publish(MemberPaused, MemberPausedData(reason="probe"), because=timer)
        self.ran += [timer.key for timer in timers]
        return outcomes  # type: ignore[no-any-return]


def test_timers_are_those_of_a_table_in_memory(probe_books: str) -> None:
    explore(Timers, probe_books)
