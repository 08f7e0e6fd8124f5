"""Events about what became of notifications."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.notifications.domain.delivery import FailedReason, Settled, SuppressedReason
from services.notifications.domain.notification import Notification
from services.notifications.domain.policy import Policy
from shared.events import CloudEvent, NotificationFailed, NotificationSent, NotificationSuppressed
from shared.events.notifications import NotificationFailedData, NotificationSentData, NotificationSuppressedData
from shared.outcomes import Command, Outcomes, Timer


def publish_suppressed(
    outcomes: Outcomes,
    ended: Sequence[Notification],
    *,
    because: Mapping[UUID, CloudEvent | Command | Timer],
    reason: SuppressedReason,
    policy: Policy,
) -> None:
    """Say of each that its time had come and why it was not sent. `because` is, by member, what ended it. The channel
    is the one that was tried last, else the one that the topic prefers."""
    for one in ended:
        data = NotificationSuppressedData(
            notification_id=one.notification_id,
            topic=one.topic,
            channel=one.attempted_channel or policy.topics[one.topic].channels[0],
            template=one.template,
            reason=reason,
        )
        outcomes.publish(NotificationSuppressed, data, because=because[one.member_id], member_id=one.member_id)


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
