"""A member's conversation: read it, write to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request

from services.messaging.api.access import (
    Anyone,
    IdempotencyKey,
    This,
    check_member,
    practitioner_of,
    refuse,
)
from services.messaging.api.bodies import (
    ConversationAnswer,
    MessageAnswer,
    MessageTakenAnswer,
    NewMessage,
    ReadUpTo,
    SentMessage,
    UnfitMessage,
)
from services.messaging.domain.conversation import start_conversation
from services.messaging.handlers.read_messages import read_messages
from services.messaging.handlers.send_message import Sender, raise_refused_words, screen_words, send_message
from services.messaging.store.conversations import load_conversations, load_message_reads, load_messages
from services.messaging.store.members import load_member_profiles
from shared.auth import Principal
from shared.commands import identity_of
from shared.database import is_transient
from shared.http import Problem, unavailable
from shared.outcomes import Refusal
from shared.service import Service

router = APIRouter(prefix="/v1/members/{member_id}", tags=["conversations"])
NUMBER_MAX: Final = 2**31 - 1
"""Of a message, as its column holds it."""


@router.get("/messages")
async def get_messages(
    member_id: UUID,
    caller: Anyone,
    service: This,
    after: Annotated[int, Query(ge=0, le=NUMBER_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> ConversationAnswer:
    """The newest messages with a number above `after`, oldest first."""
    await check_member(service, caller, member_id)
    async with service.requests.acquire() as connection:
        found = await load_conversations(connection, member_ids=[member_id])
        messages = await load_messages(connection, member_ids=[member_id], after_number=after, limit=limit)
        reads = await load_message_reads(connection, member_ids=[member_id])
    conversation = found.get(member_id) or start_conversation(member_id=member_id)
    return ConversationAnswer(
        member_id=member_id,
        conversation_id=conversation.conversation_id,
        messages=[MessageAnswer.of(message) for message in messages],
        read_up_to=reads.get(member_id, {}).get(caller.person_id, 0),
        awaiting_since=conversation.awaiting_since,
    )


@router.post("/messages", status_code=201)
async def post_message(
    member_id: UUID, sent: SentMessage, caller: Anyone, service: This, request: Request, key: IdempotencyKey = None
) -> MessageTakenAnswer:
    """Send a message. A member's words are looked through for red flags at once: the answer then says what to do, also
    where the message is refused."""
    is_member = await check_member(service, caller, member_id)
    sender = await _sender(service, caller, member_id, is_member=is_member)
    # One that is far too long takes a tenth of a second, in which others go on.
    screening = await asyncio.to_thread(screen_words, sender, sent.text)
    instruction = screening.instruction["es" if caller.language == "es" else "en"] if screening else None
    if key and screening:
        key = f"{key} {sent.text}"  # words of a red flag are not refused for a key that other words used
    message_id = identity_of("message", caller.subject, key)
    about: dict[str, Any] = {"member_ids": [member_id], "request": request, "command_id": str(message_id)}
    unfit = _why_unfit(sent, is_member=is_member, instruction=instruction)
    if unfit is not None:
        if screening is not None:
            async with _telling(instruction), service.command("refuse-message", **about) as work:
                work.take(await raise_refused_words(work.connection, screening, message_id, work.command, work.now))
        raise unfit
    async with _telling(instruction), service.command("send-message", **about) as work:
        answer = await send_message(
            work.connection,
            sender=sender,
            message_id=message_id,
            body=sent.text,
            alert_id=sent.alert_id,
            command=work.command,
            now=work.now,
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return MessageTakenAnswer(
        message=MessageAnswer.of(answer.message), conversation_id=answer.conversation_id, instruction=instruction
    )


@asynccontextmanager
async def _telling(instruction: str | None) -> AsyncIterator[None]:
    """Where no database answers, or the member is locked for long, whoever wrote of a red flag is told what to do all
    the same."""
    try:
        yield
    except Exception as error:
        if instruction is None or not is_transient(error):
            raise
        raise unavailable(instruction=instruction) from error


def _why_unfit(sent: NewMessage, *, is_member: bool, instruction: str | None) -> Problem | None:
    told: dict[str, Any] = {"instruction": instruction} if instruction else {}
    if isinstance(sent, UnfitMessage):
        return Problem(422, "invalid-request", "Some fields are not valid.", errors=sent.errors, **told)
    if is_member and sent.alert_id is not None:
        return Problem(422, "invalid-request", "Only the care team answers an alert.", **told)
    return None


async def _sender(service: Service, caller: Principal, member_id: UUID, *, is_member: bool) -> Sender:
    if not is_member:
        person = practitioner_of(caller)
        return Sender(role=person.role, sender_id=person.practitioner_id, name=person.name)
    async with service.requests.acquire() as connection:
        profile = (await load_member_profiles(connection, member_ids=[member_id])).get(member_id)
    return Sender(role="member", sender_id=member_id, name=(profile.name if profile else None) or "Member")


@router.put("/messages/read")
async def put_read(member_id: UUID, read: ReadUpTo, caller: Anyone, service: This, request: Request) -> ReadUpTo:
    """The caller has read up to this number."""
    await check_member(service, caller, member_id)
    async with service.command("read-messages", member_ids=[member_id], request=request) as work:
        answer = await read_messages(
            work.connection, member_id=member_id, reader_id=caller.person_id, number=read.number, now=work.now
        )
        if isinstance(answer, Refusal):
            refuse(answer)
    return ReadUpTo(number=answer)
