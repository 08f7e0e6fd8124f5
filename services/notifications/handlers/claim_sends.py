"""Decide what goes out now, and record the attempt before it is made."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from services.notifications.domain.delivery import Defer, Fail, PastSend, Send, Suppress, decide_delivery
from services.notifications.domain.notification import Notification, State
from services.notifications.domain.policy import Policy
from services.notifications.domain.publishing import publish_failed, publish_suppressed
from services.notifications.domain.recipient import NOBODY, Recipient
from services.notifications.domain.zones import candidate_zones
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import (
    Ending,
    defer_notifications,
    end_notifications,
    load_past_sends,
    start_attempts,
    take_due,
)
from services.notifications.store.recipients import load_recipients
from shared.database import Connection
from shared.events.vocabulary import Channel, Language, PractitionerRole
from shared.outcomes import Command, Outcomes


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One send to make, already recorded. What it needs is in it: the sender holds no transaction."""

    notification: Notification
    number: int
    channel: Channel
    address: str
    language: Language
    zone: ZoneInfo
    given_name: str | None


@dataclass(slots=True)
class Claimed:
    taken: int = 0
    """Of how many something was decided."""
    attempts: list[Attempt] = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=Outcomes)


async def claim_sends(
    connection: Connection,
    *,
    notification_ids: Sequence[UUID],
    channels: Collection[Channel],
    mailboxes: Mapping[PractitionerRole, str],
    answer_within: timedelta,
    now: datetime,
) -> Claimed:
    """Take those of these notifications that are still due, with consent, quiet hours and caps as they are in this
    transaction. `answer_within` (machine time) is how long the caller may take to record the results.

    The caller holds the locks of their members, so that nobody changes a consent beside it or sends beside it what
    counts for the same cap. Whether a page goes out depends on nothing but its own row, which is locked here."""
    policy, claimed = load_policy(), Claimed()
    due = await take_due(connection, notification_ids=notification_ids, now=now)
    claimed.taken = len(due)
    recipients = await load_recipients(connection, member_ids=list({one.member_id for one in due}))
    capped = list({one.member_id for one in due if one.page_role is None})
    past = await load_past_sends(connection, member_ids=capped, now=now) if capped else {}
    deferred: list[tuple[UUID, datetime]] = []
    endings: list[Ending] = []
    for one in due:
        recipient = recipients.get(one.member_id, NOBODY)
        decision = decide_delivery(
            notification=one,
            recipient=recipient,
            past=past.get(one.member_id, ()),
            channels=channels,
            mailboxes=mailboxes,
            policy=policy,
            now=now,
        )
        because = Command(
            name="claim-send", id=f"{one.notification_id} {one.attempts}", member_id=one.member_id, cause=one.cause
        )
        match decision:
            case Send(channel=channel):
                past.setdefault(one.member_id, []).append(PastSend(channel=channel, topic=one.topic, at=now))
                claimed.attempts.append(_attempt(one, recipient, decision, policy))
            case Defer(until=until):
                deferred.append((one.notification_id, until))
            case Suppress(reason=reason, cap=cap):
                state: State = "expired" if reason == "stale" else "suppressed"
                endings.append(Ending(notification_id=one.notification_id, state=state, reason=reason))
                publish_suppressed(
                    claimed.outcomes, [one], because={one.member_id: because}, reason=reason, policy=policy, cap=cap
                )
            case Fail(reason=failure):
                endings.append(Ending(notification_id=one.notification_id, state="failed", reason=failure))
                publish_failed(claimed.outcomes, one, because=because, reason=failure, policy=policy)
            case _:
                assert_never(decision)
    await start_attempts(
        connection,
        [(attempt.notification.notification_id, attempt.channel) for attempt in claimed.attempts],
        now=now,
        answer_within=answer_within,
    )
    await defer_notifications(connection, deferred)
    await end_notifications(connection, endings, now=now)
    return claimed


def _attempt(one: Notification, recipient: Recipient, to: Send, policy: Policy) -> Attempt:
    return Attempt(
        notification=one,
        number=one.attempts + 1,
        channel=to.channel,
        address=to.address,
        language="en" if one.page_role else recipient.language,
        zone=candidate_zones(time_zone=recipient.time_zone, state=recipient.state, policy=policy)[0],
        given_name=recipient.contact.given_name if recipient.contact and not one.page_role else None,
    )
