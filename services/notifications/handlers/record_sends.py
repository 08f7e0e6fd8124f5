"""Record what became of attempts, after they were made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.notifications.domain.delivery import AttemptResult, Settled, settle_attempt
from services.notifications.domain.publishing import publish_settled
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import find_attempted, load_attempted, settle_notifications
from shared.database import Connection
from shared.outcomes import Command, Outcomes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the provider said to one attempt, or that it said nothing."""

    notification_id: UUID
    member_id: UUID
    attempt: int
    result: AttemptResult


@dataclass(slots=True)
class Recorded:
    outcomes: Outcomes = field(default_factory=Outcomes)
    left: set[UUID] = field(default_factory=set)
    """Notifications that somebody else had locked: to be recorded later."""


async def record_sends(connection: Connection, *, answers: Sequence[Answer], now: datetime) -> Recorded:
    """Settle these attempts. An answer that comes after its attempt was given up as unknown still counts if it is an
    acceptance; any other then changes nothing, and neither does a second answer to the same attempt.

    Waits for nobody, so that whoever holds one of them holds up no other. But for pages the caller holds the locks of
    their members; what is published about a page is in order by its own row, locked here."""
    recorded, policy = Recorded(), load_policy()
    results = {(answer.notification_id, answer.attempt): answer.result for answer in answers}
    settled: list[tuple[UUID, Settled]] = []
    found = await load_attempted(connection, list(results))
    for one, is_moot, is_given_up in found:
        result = settle_attempt(
            result=results[one.notification_id, one.attempts],
            failures=one.failures,
            is_moot=is_moot,
            is_page=one.page_role is not None,
            stale_at=one.stale_at,
            policy=policy,
            now=now,
        )
        if is_given_up and result.state != "sent":
            continue
        settled.append((one.notification_id, result))
        because = Command(
            name=f"record-{result.state}",
            id=f"{one.notification_id} {one.attempts}",
            member_id=one.member_id,
            cause=one.cause,
        )
        publish_settled(recorded.outcomes, one, settled=result, because=because, policy=policy)
    await settle_notifications(connection, settled, now=now)
    if len(found) < len(results):
        mine = {one.notification_id for one, _, _ in found}
        recorded.left = await find_attempted(connection, [place for place in results if place[0] not in mine])
    return recorded
