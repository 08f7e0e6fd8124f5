"""Finding the event that makes a handler raise, without holding up the others.

Members are independent, so a failing group is halved by member until one member is left; that member's events are then
halved in their order, each half in a savepoint, until the guilty one is left. Everything before it takes effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.database import Connection, is_transient
from shared.events.envelope import CloudEvent
from shared.outbox import finish_events
from shared.outcomes import Outcomes, Ref, ref_of
from shared.subscriptions import Subscription
from shared.telemetry import describe_bug
from shared.writing import write_early


@dataclass(slots=True)
class Isolated:
    outcomes: Outcomes = field(default_factory=Outcomes)
    """Of the others. Nothing of it is left to write but the events and what answers."""
    guilty: dict[Ref, str] = field(default_factory=dict)
    """Events whose handling raised, with the exception's type and place: never its text, which may hold health data."""


def how_it_ended(
    event: CloudEvent, subscription: Subscription, outcomes: Outcomes
) -> tuple[Literal["applied", "ignored", "refused"], str | None]:
    """What became of an event that was not held again, and the reason of a refusal."""
    reason = outcomes.refused.get(ref_of(event))
    if reason is not None:
        return "refused", reason
    return ("applied" if subscription.wants(event) else "ignored"), None


async def run_isolated(
    connection: Connection, subscription: Subscription, events: Sequence[CloudEvent], *, service: str, now: datetime
) -> Isolated:
    """Run the handler over those of these events that it wants, in log order; those that make it raise, or whose own
    events could not be published, are named; the rest take effect, but for what is behind a guilty one of its member:
    that is run in a stateless group only. Failures of the world (shared/database.py) are raised."""
    search = _Search(connection, subscription, service, now)
    by_member: dict[UUID, list[CloudEvent]] = {}
    for event in filter(subscription.wants, events):
        by_member.setdefault(event.subject, []).append(event)
    await search.halve(list(by_member.values()))
    return search.found


@dataclass(slots=True)
class _Search:
    connection: Connection
    subscription: Subscription
    service: str
    now: datetime
    found: Isolated = field(default_factory=Isolated)

    async def halve(self, queues: list[list[CloudEvent]]) -> None:
        if len(queues) == 1:
            await self._in_order(queues[0])
        elif queues and await self._attempt([event for queue in queues for event in queue]):
            middle = len(queues) // 2
            await self.halve(queues[:middle])
            await self.halve(queues[middle:])

    async def _in_order(self, queue: list[CloudEvent]) -> bool:
        """Events of one member. Whether the member's next event may run."""
        bug = await self._attempt(queue)
        if bug is None:  # the caller holds the rest behind one that waits
            return not any(ref_of(event) in self.found.outcomes.waiting for event in queue)
        if len(queue) == 1:
            self.found.guilty[ref_of(queue[0])] = bug
            return self.subscription.stateless
        middle = len(queue) // 2
        return await self._in_order(queue[:middle]) and await self._in_order(queue[middle:])

    async def _attempt(self, events: Sequence[CloudEvent]) -> str | None:
        """Run these together; the bug where that is none of the world's failures, and nothing of it took effect."""
        try:
            async with self.connection.transaction():
                outcomes = await self.subscription.run(self.connection, events, now=self.now)
                # What cannot be built or encoded is this handler's bug: inside the savepoint, like any other.
                scope = self.subscription.group
                finish_events(outcomes.published, service=self.service, scope=scope, now=self.now)
                outcomes.writes[:] = await write_early(self.connection, outcomes.writes)
        except Exception as error:
            if is_transient(error):
                raise
            return describe_bug(error)
        found = self.found.outcomes
        found.published += outcomes.published
        found.refused |= outcomes.refused
        found.waiting |= outcomes.waiting
        found.writes += outcomes.writes
        return None
