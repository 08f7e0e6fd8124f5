"""Record what became of attempts, after they were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.notifications.domain.delivery import AttemptResult, Settled, settle_attempt
from services.notifications.domain.publishing import publish_settled
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import load_attempted, settle_notifications
from shared.database import Connection
from shared.outcomes import Command, Outcomes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the provider said to one attempt, or that it said nothing."""

    notification_id: UUID
    attempt: int
    result: AttemptResult


async def record_sends(connection: Connection, *, answers: Sequence[Answer], now: datetime) -> Outcomes:
    """Settle these attempts. An answer that comes after its attempt was given up as unknown still counts if it is an
    acceptance; any other then changes nothing, and neither does a second answer to the same attempt."""
    outcomes, policy = Outcomes(), load_policy()
    results = {(answer.notification_id, answer.attempt): answer.result for answer in answers}
    settled: list[tuple[UUID, Settled]] = []
    for one, is_moot, is_given_up in await load_attempted(connection, list(results)):
        result = settle_attempt(
            result=results[one.notification_id, one.attempts],
            failures=one.failures,
            is_moot=is_moot,
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
        publish_settled(outcomes, one, settled=result, because=because, policy=policy)
    await settle_notifications(connection, settled, now=now)
    return outcomes
