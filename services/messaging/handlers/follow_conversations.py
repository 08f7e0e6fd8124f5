"""careloop.conversations, our own: the timeline, and the wait for an answer."""

from collections.abc import Sequence
from datetime import datetime

from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.timeline import describe_event
from services.messaging.store.conversations import FIRST_RESPONSE, load_conversations
from services.messaging.store.feed import saving_feed_entries
from services.messaging.store.rules import load_alert_rules
from services.messaging.store.timeline import saving_timeline
from shared.database import Connection
from shared.events import CloudEvent, MessageSent
from shared.outcomes import Outcomes, Timer, cause_of
from shared.timers import save_timers


async def follow_conversations(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Record; start the first-response timer of a member's message that still waits for an answer."""
    timeline = saving_timeline([describe_event(event, service="messaging") for event in events])
    sent = {event.data.message_id: event for event in events if isinstance(event, MessageSent)}
    within = load_alert_rules().first_response_within
    members = {event.subject for event in sent.values()}
    conversations = await load_conversations(connection, member_ids=members) if members else {}
    await save_timers(
        connection,
        [
            Timer(
                kind=FIRST_RESPONSE,
                key=str(c.member_id),
                member_id=c.member_id,
                due_at=c.awaiting_since + within,
                cause=cause_of(sent[c.awaiting_message_id]),
            )
            for c in conversations.values()
            if c.awaiting_since is not None and c.awaiting_message_id in sent
        ],
    )
    shown = dict.fromkeys(event.subject for event in events)
    feed = [NewFeedEntry(kind="member", change="timeline", member_id=m, subject_id=m) for m in shown]
    return Outcomes(writes=[timeline, saving_feed_entries(feed, now=now)])
