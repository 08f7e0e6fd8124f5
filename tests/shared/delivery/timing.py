"""What tests of timers share: timers as a test sets them, and a handler that notes which of them ran."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.consuming import SettleWaiting
from shared.database import Connection, Database
from shared.dying import Attempts
from shared.events import MemberPaused, PainSettled
from shared.events.members import MemberPausedData
from shared.member_locks import lock_members
from shared.outcomes import Cause, Outcomes, Timer
from shared.suspect_timers import Caution
from shared.timers import TimersRun, run_timers, save_timers

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAUSE = Cause(source="urn:test", id="cause", chain="chain")


def timer(member: UUID, key: str, *, due_in_s: float = -1, kind: str = "probe", **payload: Any) -> Timer:
    due_at = NOW + timedelta(seconds=due_in_s)
    return Timer(kind=kind, key=key, member_id=member, due_at=due_at, cause=CAUSE, payload=payload)


async def save(pool: Database, *timers: Timer) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await lock_members(connection, [one.member_id for one in timers])
        await save_timers(connection, timers)


async def rows_of(pool: Database) -> dict[str, int]:
    """The timers that are left, with how often they failed."""
    return {row["key"]: row["failures"] for row in await pool.fetch("select key, failures from delivery.timers")}


Misdeed = Callable[[Connection, Outcomes, Timer], Awaitable[object]]


class Journal:
    """A handler that notes what ran, and does what it is told to for some keys."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.timers: list[Timer] = []
        self.began: list[list[str]] = []
        self.misdeeds: dict[str, Misdeed] = {}

    async def __call__(self, connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
        outcomes = Outcomes()
        self.began.append([one.key for one in timers])
        for one in timers:
            if one.key in self.misdeeds:
                await self.misdeeds[one.key](connection, outcomes, one)
            outcomes.publish(MemberPaused, MemberPausedData(reason="probe"), because=one)
        self.ran += [one.key for one in timers]
        self.timers += timers
        return outcomes


async def raise_bug(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    raise ValueError(timer.key)


async def draft_what_is_no_event(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    outcomes.publish(PainSettled, MemberPausedData(reason="of another event"), because=timer)


async def draft_what_is_too_large(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    outcomes.publish(MemberPaused, MemberPausedData.model_construct(reason="x" * 70_000), because=timer)


async def open_no_file(connection: Connection, outcomes: Outcomes, timer: Timer) -> None:
    raise FileNotFoundError(2, "No such file or directory")


async def nothing_waits(*_: Any, **__: Any) -> int:
    return 0


async def run(connection: Connection, journal: Journal, now: datetime = NOW) -> int:
    return (await run_claim(connection, journal, Caution(), now)).run


async def run_claim(
    connection: Connection,
    journal: Journal,
    caution: Caution,
    now: datetime = NOW,
    settle: SettleWaiting = nothing_waits,
    attempts: Attempts | None = None,
) -> TimersRun:
    handlers = {"probe": journal}
    return await run_timers(
        connection, handlers, service="probe", now=now, settle_waiting=settle, caution=caution, attempts=attempts
    )
