"""Who is a member, who paused or left, what they consented to."""

from collections.abc import Sequence
from datetime import datetime
from typing import get_args
from uuid import UUID

from services.notifications.domain.membership import MemberEvent, Membership, consents_of, follow_membership
from services.notifications.domain.publishing import publish_suppressed
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import suppress_topics
from services.notifications.store.recipients import load_memberships, save_consents, save_memberships
from services.notifications.store.session_timers import KIND, forget_schedules, move_session_timers
from shared.database import Connection
from shared.events import MemberDisenrolled
from shared.events.vocabulary import NotificationTopic
from shared.outcomes import Outcomes
from shared.timers import cancel_member_timers

TOPICS: tuple[NotificationTopic, ...] = get_args(NotificationTopic)


async def follow_members(connection: Connection, events: Sequence[MemberEvent], /, *, now: datetime) -> Outcomes:
    """Fold each member's events; then end what a pause or a departure makes moot, by the state that is left."""
    outcomes, policy = Outcomes(), load_policy()
    latest = {event.subject: event for event in events}
    memberships = await load_memberships(connection, member_ids=list(latest))
    for event in events:
        before = memberships.get(event.subject, Membership())
        memberships[event.subject] = follow_membership(membership=before, event=event)
    await save_memberships(connection, memberships)
    consents = [(event.subject, consent) for event in events for consent in consents_of(event=event)]
    await save_consents(connection, consents)

    left = [member_id for member_id, one in memberships.items() if one.status == "disenrolled"]
    await cancel_member_timers(connection, kinds=[KIND, "reminder.visit"], member_ids=left)
    ended = await suppress_topics(connection, member_ids=left, topics=TOPICS, reason="disenrolled", now=now)
    publish_suppressed(outcomes, ended, because=latest, reason="disenrolled", policy=policy)

    paused: list[UUID] = [member_id for member_id, one in memberships.items() if one.status == "paused"]
    resting = [topic for topic in TOPICS if not policy.topics[topic].sent_while_paused]
    ended = await suppress_topics(connection, member_ids=paused, topics=resting, reason="paused", now=now)
    publish_suppressed(outcomes, ended, because=latest, reason="paused", policy=policy)

    left_at = {event.subject: event.time for event in events if isinstance(event, MemberDisenrolled)}
    await forget_schedules(connection, left_at)
    await move_session_timers(connection, member_ids=list(memberships), policy=policy, now=now)
    return outcomes
