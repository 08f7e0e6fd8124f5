"""A message in a member's one conversation. Red-flag words in a member's message raise a safety alert at once."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import resolve_alert
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.conversation import (
    Conversation,
    Message,
    add_message,
    find_red_flags,
    route_message,
    start_conversation,
)
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.people import CareTeam
from services.messaging.domain.triggers import on_red_flag_phrases
from services.messaging.store.alerts import (
    has_asked,
    load_alert_book,
    load_alerts,
    lock_standing_alerts,
    saving_alert_changes,
)
from services.messaging.store.conversations import (
    FIRST_RESPONSE,
    find_messages,
    load_conversations,
    save_conversations,
    save_message_reads,
    save_messages,
)
from services.messaging.store.members import load_care_teams
from services.messaging.store.rules import load_alert_rules, load_phrase_rules, load_trigger_rules
from shared.database import Connection
from shared.events import MessageSent
from shared.events.conversations import MessageSentData
from shared.events.vocabulary import Practitioner, SenderRole
from shared.outcomes import Command, Outcomes, Refusal
from shared.red_flags import Screening, screen
from shared.timers import cancel_timers


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """Who writes: the member, or one of the care team."""

    role: SenderRole
    sender_id: UUID
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageTaken:
    message: Message
    conversation_id: UUID
    screening: Screening | None
    """The red flag that the words may tell of, with the instruction that the member is shown at once."""
    outcomes: Outcomes
    repeated: bool = False
    """The same message was sent before: nothing happened now."""


async def send_message(
    connection: Connection,
    *,
    sender: Sender,
    message_id: UUID,
    body: str,
    alert_id: UUID | None,
    command: Command,
    now: datetime,
) -> MessageTaken | Refusal:
    """Write a message to the command's member's conversation. `alert_id`: the alert that a clinician answers with it.
    The message id is the sender's, so that a repeat is one message. Refusals: no-such-alert, message-id-taken."""
    assert command.member_id is not None, "a message is a command about one member"
    member_id = command.member_id
    conversations = await load_conversations(connection, member_ids=[member_id])
    conversation = conversations.get(member_id) or start_conversation(member_id=member_id)
    team = (await load_care_teams(connection, member_ids=[member_id], now=now)).get(member_id)
    if sender.role in ("pt", "coach") and not _of_team(sender, team):
        # Who may write without being of the team is on call, whatever else they are for others.
        sender = replace(sender, role="oncall")
    earlier = (await find_messages(connection, message_ids=[message_id])).get(message_id)
    if earlier:
        if (earlier.member_id, earlier.sender_id, earlier.body) != (member_id, sender.sender_id, body):
            return Refusal("message-id-taken", "Another message has this id.")
        return MessageTaken(
            message=earlier,
            conversation_id=conversation.conversation_id,
            screening=screen_words(sender, body),
            outcomes=Outcomes(),
            repeated=True,
        )
    if alert_id is not None:
        alert = (await load_alerts(connection, alert_ids=[alert_id])).get(alert_id)
        if alert is None or alert.member_id != member_id:
            return Refusal("no-such-alert", "There is no such alert.")
        command = replace(command, cause=alert.cause)
    message = Message(
        message_id=message_id,
        member_id=member_id,
        number=conversation.last_number + 1,
        sender_role=sender.role,
        sender_id=sender.sender_id,
        sender_name=sender.name,
        body=body,
        sent_at=now,
        alert_id=alert_id,
    )
    await save_conversations(connection, [add_message(conversation=conversation, message=message)])
    await save_messages(connection, [message])
    await save_message_reads(
        connection, member_ids=[member_id], reader_ids=[sender.sender_id], numbers=[message.number], now=now
    )
    return await _tell(connection, message, conversation, sender, team, command, now)


async def _tell(
    connection: Connection,
    message: Message,
    conversation: Conversation,
    sender: Sender,
    team: CareTeam | None,
    command: Command,
    now: datetime,
) -> MessageTaken:
    """Publish the message, and what it means for alerts; the feed last."""
    outcomes = Outcomes()
    recipients = route_message(sender_role=sender.role, has_team=team is not None)
    data = MessageSentData(
        conversation_id=conversation.conversation_id,
        message_id=message.message_id,
        sender_role=sender.role,
        sender_id=sender.sender_id,
        recipients=recipients,
    )
    outcomes.publish(MessageSent, data, because=command, member_id=message.member_id)
    screening = screen_words(sender, message.body)
    if sender.role == "member":
        changes = await _raise_red_flag(connection, message.message_id, screening, command, now=now)
    else:
        changes = await _answer(connection, message, sender, command, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)
    entry = NewFeedEntry(
        kind="conversation",
        change="message",
        member_id=message.member_id,
        subject_id=conversation.conversation_id,
        also=(sender.sender_id,) if sender.role != "member" else (),
        oncall="oncall" in recipients,
    )
    outcomes.writes += saving_alert_changes(changes, now=now, feed=[entry])
    return MessageTaken(
        message=message, conversation_id=conversation.conversation_id, screening=screening, outcomes=outcomes
    )


def screen_words(sender: Sender, body: str) -> Screening | None:
    """The red flag that a member's words may tell of; nobody makes anything of the care team's own."""
    if sender.role != "member":
        return None
    found = find_red_flags(text=body, rules=load_phrase_rules())
    return screen(findings=[phrase.finding for phrase in found]) if found else None


def _of_team(sender: Sender, team: CareTeam | None) -> bool:
    return team is not None and sender.sender_id in {p.practitioner_id for p in (team.pt, team.coach) if p}


async def raise_refused_words(
    connection: Connection, screening: Screening, message_id: UUID, command: Command, now: datetime
) -> Outcomes:
    """Tell who cares for the command's member of the red flag in a message that cannot be taken: once, however often it
    is sent."""
    outcomes = Outcomes()
    changes = await _raise_red_flag(connection, message_id, screening, command, now=now, is_taken=False)
    announce_alerts(outcomes=outcomes, changes=changes)
    outcomes.writes += saving_alert_changes(changes, now=now, feed=[])
    return outcomes


async def _raise_red_flag(
    connection: Connection,
    message_id: UUID,
    screening: Screening | None,
    command: Command,
    *,
    now: datetime,
    is_taken: bool = True,
) -> list[AlertChange]:
    if screening is None or screening.disposition == "none":
        return []
    trigger = on_red_flag_phrases(
        screening=screening,
        command=command,
        message_id=str(message_id),
        is_taken=is_taken,
        phrases_version=load_phrase_rules().version,
        rules=load_trigger_rules(),
    )
    book = await load_alert_book(connection, triggers=[trigger], now=now)
    if not is_taken and await has_asked(
        connection, member_id=trigger.member_id, kind=trigger.kind, command_id=command.id
    ):
        return []
    return raise_alerts(triggers=[trigger], known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)


async def _answer(
    connection: Connection, message: Message, sender: Sender, command: Command, *, now: datetime
) -> list[AlertChange]:
    """An answer ends the wait, and the alert that asked for it."""
    await cancel_timers(connection, kind=FIRST_RESPONSE, keys=[str(message.member_id)])
    if sender.role not in ("pt", "coach", "oncall"):
        return []
    by = Practitioner(practitioner_id=sender.sender_id, role=sender.role, name=sender.name)
    changes = [
        resolve_alert(
            alert=alert,
            by=by,
            outcome="reached-member",
            note=None,
            because=replace(command, cause=alert.cause),
            now=now,
        )
        for alert in await lock_standing_alerts(connection, of=[(message.member_id, "unanswered-message")])
    ]
    return [change for change in changes if isinstance(change, AlertChange)]
