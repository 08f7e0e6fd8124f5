"""Somebody has read a conversation up to a message."""

from datetime import datetime
from uuid import UUID

from services.messaging.domain.feed import NewFeedEntry
from services.messaging.store.conversations import load_conversations, save_message_reads
from services.messaging.store.feed import save_feed_entries
from shared.database import Connection
from shared.outcomes import Refusal


async def read_messages(
    connection: Connection, *, member_id: UUID, reader_id: UUID, number: int, now: datetime
) -> int | Refusal:
    """Note it; the number read up to. Refusal: no-such-message (nothing has that number yet)."""
    conversation = (await load_conversations(connection, member_ids=[member_id])).get(member_id)
    if conversation is None or number > conversation.last_number:
        return Refusal("no-such-message", "The conversation has no message with that number.")
    await save_message_reads(connection, member_ids=[member_id], reader_ids=[reader_id], numbers=[number], now=now)
    entry = NewFeedEntry(
        kind="conversation", change="read", member_id=member_id, subject_id=conversation.conversation_id
    )
    await save_feed_entries(connection, [entry], now=now)
    return number
