"""A message is announced to the member; an alert that cannot wait is paged to the role that is asked."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.notifications.domain.announcements import about_alert, announce_message, announce_page
from services.notifications.domain.notification import Notification
from services.notifications.domain.publishing import publish_suppressed
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import (
    find_standing,
    plan_notifications,
    stand_longer,
    suppress_about,
)
from shared.database import Connection
from shared.events import AlertAcknowledged, AlertEscalated, AlertRaised, AlertResolved, MessageSent
from shared.outcomes import Outcomes

ConversationEvent: TypeAlias = MessageSent | AlertRaised | AlertEscalated | AlertAcknowledged | AlertResolved


async def follow_conversations(
    connection: Connection, events: Sequence[ConversationEvent], /, *, now: datetime
) -> Outcomes:
    """One announcement stands for all messages of a conversation until it is sent, and as long as the last of them
    would. A page of an alert that somebody took before it was sent is moot, unless it was asked for after they took it:
    a red flag is published urgently and may arrive before an earlier acknowledgement, so that times decide and not the
    order of arrival."""
    outcomes, policy = Outcomes(), load_policy()
    member_ids = list({event.subject for event in events})
    standing = await find_standing(connection, member_ids=member_ids, topic="message")
    planned: dict[tuple[UUID, str, UUID], Notification] = {}
    joined: dict[tuple[UUID, str], Notification] = {}
    taken: dict[UUID, AlertAcknowledged | AlertResolved] = {}
    for event in events:
        match event:
            case MessageSent():
                message = announce_message(event=event, policy=policy, now=now)
                if message and (message.member_id, message.about) in standing:
                    joined[message.member_id, message.about] = message
                elif message:
                    standing.add((message.member_id, message.about))
                    planned[message.member_id, message.about, message.notification_id] = message
            case AlertRaised() | AlertEscalated():
                page = announce_page(event=event, policy=policy, now=now)
                if page:
                    planned[page.member_id, page.about, page.notification_id] = page
            case AlertAcknowledged() | AlertResolved():
                before = taken.get(event.data.alert_id)
                if before is None or before.time <= event.time:
                    taken[event.data.alert_id] = event
    await plan_notifications(connection, list(planned.values()), now=now)
    await stand_longer(connection, list(joined.values()), topic="message")
    gone = [(event.subject, about_alert(alert_id)) for alert_id, event in taken.items()]
    until = [event.time for event in taken.values()]
    for one in await suppress_about(connection, gone, until=until, reason="moot", now=now):
        because = {one.member_id: taken[UUID(one.params["alert_id"])]}
        publish_suppressed(outcomes, [one], because=because, reason="moot", policy=policy)
    return outcomes
