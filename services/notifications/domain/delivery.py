"""Whether a planned notification goes out now, later or never; and what an attempt's answer means."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from services.notifications.domain.consent import is_permitted
from services.notifications.domain.jitter import jitter_of
from services.notifications.domain.notification import Notification
from services.notifications.domain.policy import Cap, Policy, SuppressedReason, TopicPolicy
from services.notifications.domain.quiet_hours import defer
from services.notifications.domain.recipient import Recipient
from services.notifications.domain.zones import candidate_zones
from shared.events.vocabulary import Channel, NotificationTopic, PractitionerRole

FailedReason = Literal["bounced", "rejected", "unreachable", "unknown-result", "no-address"]
RETRY_INTERVAL_MAX = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Send:
    channel: Channel
    address: str


@dataclass(frozen=True, kw_only=True)
class Defer:
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Suppress:
    reason: SuppressedReason
    cap: Cap | None = None
    """Which cap was reached, for `frequency-cap`."""


@dataclass(frozen=True, kw_only=True)
class Fail:
    reason: FailedReason


Delivery: TypeAlias = Send | Defer | Suppress | Fail


@dataclass(frozen=True, kw_only=True)
class PastSend:
    """One notification that was sent, or may have been, to the same member."""

    channel: Channel
    topic: NotificationTopic
    at: datetime


def decide_delivery(
    *,
    notification: Notification,
    recipient: Recipient,
    past: Sequence[PastSend],
    channels: Collection[Channel],
    mailboxes: Mapping[PractitionerRole, str],
    policy: Policy,
    now: datetime,
) -> Delivery:
    """Decide one notification whose time has come.

    `past` holds what this member was sent in the last seven days, `channels` what this installation can send by,
    `mailboxes` where each role is paged. Quiet hours only move it; staleness ends it.
    """
    topic = policy.topics[notification.topic]
    if now >= notification.stale_at:
        return _ended(notification, recipient)
    if notification.page_role is not None:
        mailbox = mailboxes.get(notification.page_role)
        return Send(channel="email", address=mailbox) if mailbox else Fail(reason="no-address")
    if recipient.status == "disenrolled":
        return Suppress(reason="disenrolled")
    if recipient.is_paused(now) and not topic.sent_while_paused:
        return Suppress(reason="paused")
    choice = _choose_channel(notification, recipient, past, channels, topic, policy, now)
    if isinstance(choice, Suppress):
        if recipient.contact is None or recipient.status == "unknown":
            return Defer(until=min(now + policy.look_again_after, notification.stale_at))
        return choice
    if topic.urgent:
        return choice
    zones = candidate_zones(time_zone=recipient.time_zone, state=recipient.state, policy=policy)
    jitter = jitter_of(member_id=notification.member_id, up_to=policy.jitter_max)
    until = defer(at=now, zones=zones, window=policy.window, jitter=jitter)
    return choice if until == now else Defer(until=until)


def _ended(notification: Notification, recipient: Recipient) -> Delivery:
    """Why a notification that became stale was never sent: we could not, or it was its time."""
    if notification.last_error is not None:
        return Fail(reason="unreachable")
    if notification.page_role is None and recipient.contact is None:
        return Suppress(reason="no-address")
    return Suppress(reason="stale")


def _choose_channel(
    notification: Notification,
    recipient: Recipient,
    past: Sequence[PastSend],
    channels: Collection[Channel],
    topic: TopicPolicy,
    policy: Policy,
    now: datetime,
) -> Send | Suppress:
    """The first channel, in the topic's order, that has an address, the member's consent and room under the caps. If
    there is none, the obstacle of the channel that came furthest."""
    obstacles: dict[SuppressedReason, Cap | None] = {"no-address": None}
    for channel in topic.channels:
        address = recipient.address(channel)
        if channel not in channels or address is None:
            continue
        opted_out_at = recipient.opted_out.get(channel)
        if topic.needs_consent and not is_permitted(
            consents=recipient.consents, opted_out_at=opted_out_at, channel=channel, topic=notification.topic
        ):
            obstacles["no-consent"] = None
            continue
        cap = find_cap(past=past, channel=channel, topic=notification.topic, policy=policy, now=now)
        if topic.urgent or cap is None:
            return Send(channel=channel, address=address)
        obstacles.setdefault("frequency-cap", cap)
    order: tuple[SuppressedReason, ...] = ("frequency-cap", "no-consent", "no-address")
    reason = next(reason for reason in order if reason in obstacles)
    return Suppress(reason=reason, cap=obstacles[reason])


def find_cap(
    *, past: Sequence[PastSend], channel: Channel, topic: NotificationTopic, policy: Policy, now: datetime
) -> Cap | None:
    """The cap that one more on this channel and of this topic would be over, in trailing 24 hours or 7 days."""
    for cap in policy.caps:
        if cap.channel != channel or topic not in cap.topics:
            continue
        counted = [one.at for one in past if one.channel == channel and one.topic in cap.topics]
        if sum(at > now - timedelta(days=1) for at in counted) >= cap.per_day:
            return cap
        if sum(at > now - timedelta(days=7) for at in counted) >= cap.per_week:
            return cap
    return None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The provider took responsibility for the message."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The provider said no for good; nothing was sent. `code` such as `smtp-550`."""

    code: str


@dataclass(frozen=True, kw_only=True)
class NotNow:
    """Known not to have been accepted; may work later. `code` such as `smtp-451`."""

    code: str
    provider_down: bool = False
    """Not this message but the provider could not be reached: no attempt of the message's own."""


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """The provider may or may not have accepted it: the line went dead after the message was handed over."""


AttemptResult: TypeAlias = Accepted | Refused | NotNow | NoAnswer


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a notification becomes after an attempt."""

    state: Literal["sent", "failed", "unknown", "planned", "suppressed"]
    failure: FailedReason | None = None
    not_before: datetime | None = None
    is_failure: bool = False
    """Whether the attempt counts against the limit."""
    last_error: str | None = None


NO_ANSWER = "no-answer"
UNKNOWN = Settled(state="unknown", failure="unknown-result", last_error=NO_ANSWER)


def settle_attempt(
    *,
    result: AttemptResult,
    failures: int,
    is_moot: bool,
    is_page: bool,
    stale_at: datetime,
    policy: Policy,
    now: datetime,
) -> Settled:
    """What the answer to an attempt means, after `failures` earlier ones that led to another. Only what is known not to
    have been accepted is tried again, unless its reason has gone meanwhile; an attempt of unknown result never is,
    because that could send it twice. A page is: told twice it does no harm, missed it does."""
    match result:
        case Accepted():
            return Settled(state="sent")
        case Refused(code=code):
            return Settled(state="failed", failure="rejected", last_error=code)
        case NoAnswer() if not is_page:
            return UNKNOWN
        case NotNow(provider_down=True, code=code) if not is_moot:
            return Settled(state="planned", not_before=now, last_error=code)
        case NotNow() | NoAnswer():
            code = result.code if isinstance(result, NotNow) else NO_ANSWER
            if is_moot:
                return Settled(state="suppressed", last_error=code)
            wait = min(policy.retry_first_after * 2 ** min(failures, 20), RETRY_INTERVAL_MAX)
            if failures + 1 < policy.attempts_max and now + wait < stale_at:
                return Settled(state="planned", not_before=now + wait, is_failure=True, last_error=code)
            if isinstance(result, NoAnswer):
                return UNKNOWN
            return Settled(state="failed", failure="unreachable", last_error=code)
