"""Events about what became of notifications."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from services.notifications.domain.delivery import FailedReason, Settled
from services.notifications.domain.notification import Notification
from services.notifications.domain.policy import Cap, Policy, SuppressedReason
from shared.events import CloudEvent, Decision, EventRef, NotificationFailed, NotificationSent, NotificationSuppressed
from shared.events.notifications import NotificationFailedData, NotificationSentData, NotificationSuppressedData
from shared.outcomes import Command, Outcomes, Timer

ENDED_BY: Final[Mapping[str, str]] = {
    "session.completed": "The session was done before this message about it was sent.",
    "visit.rescheduled": "The visit was moved before this message about it was sent.",
    "visit.cancelled": "The visit was cancelled before this message about it was sent.",
    "visit.completed": "The visit was over before this message about it was sent.",
    "visit.missed": "The visit was over before this message about it was sent.",
    "alert.acknowledged": "Somebody took the alert on before this page about it was sent.",
    "alert.resolved": "The alert was closed before this page about it was sent.",
}
"""Why something is moot, by the event that made it so."""


def publish_suppressed(
    outcomes: Outcomes,
    ended: Sequence[Notification],
    *,
    because: Mapping[UUID, CloudEvent | Command | Timer],
    reason: SuppressedReason,
    policy: Policy,
    cap: Cap | None = None,
) -> None:
    """Say of each that its time had come and why it was not sent. `because` is, by member, what ended it; `cap` the one
    that was reached. The channel is the one that was tried last, else the one that the topic prefers."""
    for one in ended:
        data = NotificationSuppressedData(
            notification_id=one.notification_id,
            topic=one.topic,
            channel=one.attempted_channel or policy.topics[one.topic].channels[0],
            template=one.template,
            reason=reason,
            decision=_decision(one, reason=reason, because=because[one.member_id], policy=policy, cap=cap),
        )
        outcomes.publish(NotificationSuppressed, data, because=because[one.member_id], member_id=one.member_id)


def _decision(
    one: Notification,
    *,
    reason: SuppressedReason,
    because: CloudEvent | Command | Timer,
    policy: Policy,
    cap: Cap | None,
) -> Decision:
    """The rule that ended it. Evidence is what asked for the notification, then the event that ended it."""
    rule = cap.rule if cap is not None else policy.endings[reason]
    said = rule.says
    if reason == "moot" and isinstance(because, CloudEvent):
        said = ENDED_BY.get(because.NAME, said)
    elif reason == "stale":
        said = f"{said} It was until {one.stale_at:%Y-%m-%d %H:%M} UTC."
    evidence = [EventRef(source=one.cause.source, id=one.cause.id)]
    if isinstance(because, CloudEvent) and because.ref not in evidence:
        evidence.append(because.ref)
    return Decision(rule_id=rule.id, rule_version=rule.version, reason=said, evidence=tuple(evidence))


def publish_failed(
    outcomes: Outcomes, one: Notification, *, because: Command, reason: FailedReason, policy: Policy
) -> None:
    """Say that it could not be sent, or that nobody knows whether it was."""
    data = NotificationFailedData(
        notification_id=one.notification_id,
        topic=one.topic,
        channel=one.attempted_channel or policy.topics[one.topic].channels[0],
        template=one.template,
        reason=reason,
    )
    outcomes.publish(NotificationFailed, data, because=because)


def publish_settled(
    outcomes: Outcomes, one: Notification, *, settled: Settled, because: Command, policy: Policy
) -> None:
    """Say what became of an attempt. One that is tried again is not told: nothing has come of it yet."""
    match settled:
        case Settled(state="sent"):
            assert one.attempted_channel is not None
            data = NotificationSentData(
                notification_id=one.notification_id,
                topic=one.topic,
                channel=one.attempted_channel,
                template=one.template,
            )
            outcomes.publish(NotificationSent, data, because=because)
        case Settled(state="suppressed"):
            publish_suppressed(outcomes, [one], because={one.member_id: because}, reason="moot", policy=policy)
        case Settled(failure=reason) if reason is not None:
            publish_failed(outcomes, one, because=because, reason=reason, policy=policy)
