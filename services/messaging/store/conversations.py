"""Conversations: one per member, with the whole care team."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.messaging.domain.conversation import Conversation, Message
from services.messaging.store.columns import columns_of
from services.messaging.store.json_rows import inserting, json_row
from shared.database import Connection

FIRST_RESPONSE = "conversation.first-response"
"""Timer kind; key: the member's id; due when a member's message has waited too long for an answer."""

LOAD = f"select {columns_of(Conversation)} from conversations where member_id = any($1::uuid[])"  # noqa: S608
SAVE = f"""
{inserting("conversations", columns_of(Conversation))}
on conflict (member_id) do update set (last_number, last_message_at, awaiting_message_id, awaiting_since) =
    (excluded.last_number, excluded.last_message_at, excluded.awaiting_message_id, excluded.awaiting_since)
"""
SAVE_MESSAGES = inserting("messages", columns_of(Message))
SELECT_MESSAGES = f"select {columns_of(Message)} from messages"  # noqa: S608 - only our own parts
FIND_MESSAGES = f"{SELECT_MESSAGES} where message_id = any($1::uuid[])"
LOAD_MESSAGES = f"""
select m.* from unnest($1::uuid[]) as wanted(member_id), lateral (
    {SELECT_MESSAGES} where member_id = wanted.member_id and number > $2 order by number desc limit $3
) as m order by m.member_id, m.number
"""  # noqa: S608 - only our own parts
FIND_LATER = f"""
{SELECT_MESSAGES} where member_id = $1 and sender_role = 'member' and sent_at > $2 order by number limit 1
"""


async def load_conversations(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, Conversation]:
    """Conversations by member; members nobody wrote to or heard from are missing."""
    rows = await connection.fetch(LOAD, list(member_ids))
    return {row["member_id"]: Conversation(**dict(row)) for row in rows}


async def save_conversations(connection: Connection, conversations: Collection[Conversation]) -> None:
    """Insert or replace conversations."""
    rows = [json_row({name: getattr(c, name) for name in Conversation.__dataclass_fields__}) for c in conversations]
    await connection.execute(SAVE, rows)


async def save_messages(connection: Connection, messages: Sequence[Message]) -> None:
    """Add messages. The sender must hold the member's lock; asyncpg.UniqueViolationError when a message id is taken."""
    rows = [json_row({name: getattr(m, name) for name in Message.__dataclass_fields__}) for m in messages]
    await connection.execute(SAVE_MESSAGES, rows)


async def find_messages(connection: Connection, *, message_ids: Collection[UUID]) -> dict[UUID, Message]:
    """Messages by id; unknown ones are missing."""
    rows = await connection.fetch(FIND_MESSAGES, list(message_ids))
    return {row["message_id"]: Message(**dict(row)) for row in rows}


async def load_messages(
    connection: Connection, *, member_ids: Collection[UUID], after_number: int = 0, limit: int = 200
) -> list[Message]:
    """The newest `limit` messages of each of these members with a number above `after_number`, in order of number."""
    rows = await connection.fetch(LOAD_MESSAGES, list(member_ids), after_number, limit)
    return [Message(**dict(row)) for row in rows]


async def find_later_message(connection: Connection, *, member_id: UUID, after: datetime) -> Message | None:
    """The member's own first message after this moment."""
    row = await connection.fetchrow(FIND_LATER, member_id, after)
    return Message(**dict(row)) if row else None


async def save_message_reads(
    connection: Connection,
    *,
    member_ids: Sequence[UUID],
    reader_ids: Sequence[UUID],
    numbers: Sequence[int],
    now: datetime,
) -> None:
    """These people have read up to these numbers; never backwards."""
    await connection.execute(
        """insert into message_reads (member_id, reader_id, number, read_at)
        select n.*, $4::timestamptz from unnest($1::uuid[], $2::uuid[], $3::int[]) as n(member_id, reader_id, number)
        on conflict (member_id, reader_id) do update set number = excluded.number, read_at = excluded.read_at
        where message_reads.number < excluded.number""",
        list(member_ids),
        list(reader_ids),
        list(numbers),
        now,
    )


async def load_message_reads(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, dict[UUID, int]]:
    """By member: reader -> number read up to."""
    rows = await connection.fetch(
        "select member_id, reader_id, number from message_reads where member_id = any($1::uuid[])", list(member_ids)
    )
    reads: dict[UUID, dict[UUID, int]] = {}
    for row in rows:
        reads.setdefault(row["member_id"], {})[row["reader_id"]] = row["number"]
    return reads
