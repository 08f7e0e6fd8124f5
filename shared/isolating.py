"""Finding the event that makes a handler raise, without holding up the others.

Members are independent, so a failing group is halved by member until one member is left; that member's events then run
one by one, each in a savepoint, until the guilty one is found. Everything before it takes effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from shared.database import Connection, is_transient
from shared.events.envelope import CloudEvent
from shared.outcomes import Outcomes
from shared.subscriptions import EventHandler

Ref = tuple[str, str]


@dataclass(slots=True)
class Isolated:
    outcomes: Outcomes = field(default_factory=Outcomes)
    guilty: dict[Ref, str] = field(default_factory=dict)
    """Events whose handling raised, with the exception's type and place: never its text, which may hold health data."""
    behind: set[Ref] = field(default_factory=set)
    """Later events of the same members: not run."""


def describe_bug(error: BaseException) -> str:
    """An exception as one line without its text, which may hold health data: its type, and where it was raised;
    of the database also the SQLSTATE and the names of table and constraint."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else ""
    names = [getattr(error, name, None) for name in ("sqlstate", "table_name", "constraint_name")]
    said = ", ".join(str(name) for name in names if name)
    return f"{type(error).__name__}{f' ({said})' if said else ''}{place}"


def ref_of(event: CloudEvent) -> Ref:
    return (event.source, event.id)


async def run_isolated(
    connection: Connection, run: EventHandler, events: Sequence[CloudEvent], *, now: datetime, alone: bool = False
) -> Isolated:
    """Run a handler over events in log order; those that make it raise are named, the rest take effect. With `alone`
    (a stateless group) nothing queues behind a guilty event. Failures of the world (shared/database.py) are raised."""
    found = Isolated()
    by_member: dict[UUID, list[CloudEvent]] = {}
    for event in events:
        by_member.setdefault(event.subject, []).append(event)
    await _halve(connection, run, list(by_member.values()), found, now, alone)
    return found


async def _attempt(
    connection: Connection, run: EventHandler, events: Sequence[CloudEvent], now: datetime
) -> Outcomes | str:
    try:
        async with connection.transaction():
            return await run(connection, events, now=now)
    except Exception as error:
        if is_transient(error):
            raise
        return describe_bug(error)


async def _halve(
    connection: Connection,
    run: EventHandler,
    queues: list[list[CloudEvent]],
    found: Isolated,
    now: datetime,
    alone: bool,
) -> None:
    if not queues:
        return
    outcome = await _attempt(connection, run, [event for queue in queues for event in queue], now)
    if isinstance(outcome, Outcomes):
        _merge(found.outcomes, outcome)
    elif len(queues) > 1:
        middle = len(queues) // 2
        await _halve(connection, run, queues[:middle], found, now, alone)
        await _halve(connection, run, queues[middle:], found, now, alone)
    else:
        await _one_by_one(connection, run, queues[0], found, now, alone)


async def _one_by_one(
    connection: Connection, run: EventHandler, queue: list[CloudEvent], found: Isolated, now: datetime, alone: bool
) -> None:
    for place, event in enumerate(queue):
        outcome = await _attempt(connection, run, [event], now)
        if isinstance(outcome, str):
            found.guilty[ref_of(event)] = outcome
            if alone:
                continue
            found.behind.update(ref_of(later) for later in queue[place + 1 :])
            return
        _merge(found.outcomes, outcome)
        if outcome.waiting:
            return  # the caller holds the rest behind the one that waits


def _merge(into: Outcomes, more: Outcomes) -> None:
    into.published += more.published
    into.refused |= more.refused
    into.waiting |= more.waiting
