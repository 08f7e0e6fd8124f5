"""What must have become of the messages that members and their care team wrote."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from services.messaging.domain.alert import Trigger
from services.messaging.domain.conversation import (
    Conversation,
    Message,
    add_message,
    find_red_flags,
    route_message,
    start_conversation,
)
from services.messaging.domain.triggers import on_red_flag_phrases
from services.messaging.store.conversations import FIRST_RESPONSE, load_conversations
from services.messaging.store.rules import load_alert_rules, load_phrase_rules, load_trigger_rules
from services.notifications.domain.announcements import announce_message
from services.notifications.store.library import load_policy
from shared.database import Connection
from shared.events import CloudEvent, MessageSent
from shared.events.conversations import MessageSentData
from shared.outcomes import Cause, Command
from shared.red_flags import Screening, screen
from tests.chaos.clients import MessageTold, Told
from tests.chaos.findings import Findings, derive_id
from tests.chaos.people import Cast

COMMANDS = "urn:careloop:messaging:commands"


class MessagesOracle:
    """`events`: the first copies in careloop.conversations, as they lie there."""

    def __init__(self, cast: Cast, told: Told, events: Sequence[CloudEvent], findings: Findings) -> None:
        self._cast, self._findings = cast, findings
        self._told = {one.message_id: one for one in told.messages}
        self._sent = [event for event in events if isinstance(event, MessageSent)]
        self.conversations: dict[UUID, Conversation] = {}
        self.to_announce: dict[UUID, bool] = {}
        """Notifications that may be planned, and whether one must be: one stands for all until it is sent."""
        for reason in told.refused:
            findings.add("messages", f"a message was not taken: {reason}")
        findings.same_all("messages", "identities", [one.message_id for one in told.messages], self._told)

    def judge(self) -> None:
        """Each was told of once, as it was sent, in the order of their numbers; and who writes of a red flag is told
        what to do."""
        self._findings.same_all(
            "messages", "careloop.conversations", self._told, [event.data.message_id for event in self._sent]
        )
        for event in self._sent:
            one = self._told.get(event.data.message_id)
            if one is None:
                continue
            number = self._follow(event, one)
            self._findings.same("messages", "a message's number", one.number, number)
            identity = f"messaging command send-message {one.message_id} {COMMANDS} {one.message_id} 0"
            self._findings.same("messages", "an identity", derive_id(identity), event.id)
            self._findings.same("messages", "a cause", (COMMANDS, str(one.message_id)), _cause(event))
            self._announce(event)
        for one in self._told.values():
            screening = screened(one)
            instruction = screening.instruction["en"] if screening is not None else None
            self._findings.same("messages", "what a member is told to do", instruction, one.instruction)

    def red_flags(self) -> dict[UUID, list[Trigger]]:
        """What the words of each member ask for, in the order in which they wrote: a clinician, at once."""
        asked: dict[UUID, list[Trigger]] = {}
        for one in sorted(self._told.values(), key=lambda one: one.number):
            screening = screened(one)
            if screening is not None and screening.disposition != "none":
                asked.setdefault(one.errand.member_id, []).append(_trigger(one, screening))
        return asked

    def _follow(self, event: MessageSent, one: MessageTold) -> int:
        """The conversation after it; the number that it has in it."""
        member_id, role = one.errand.member_id, one.errand.role or "member"
        who = {"pt": self._cast.pt, "coach": self._cast.coach}.get(role)
        before = self.conversations.get(member_id) or start_conversation(member_id=member_id)
        expected = MessageSentData(
            conversation_id=before.conversation_id, message_id=one.message_id, sender_role=role,
            sender_id=who.practitioner_id if who else member_id,
            recipients=route_message(sender_role=role, has_team=True),
        )  # fmt: skip
        self._findings.same("messages", "what is told of a message", (member_id, expected), (event.subject, event.data))
        message = Message(
            message_id=one.message_id, member_id=member_id, number=before.last_number + 1, sender_role=role,
            sender_id=expected.sender_id, sender_name="", body="", sent_at=event.time,
        )  # fmt: skip
        self.conversations[member_id] = add_message(conversation=before, message=message)
        return message.number

    def _announce(self, event: MessageSent) -> None:
        announced = announce_message(event=event, policy=load_policy(), now=event.time)
        if announced is not None:
            self.to_announce[announced.notification_id] = not any(
                one.subject == event.subject and one.data.sender_role != "member"
                for one in self._sent[: self._sent.index(event)]
            )

    async def look_at(self, connection: Connection, timers: dict[str, datetime]) -> None:
        """`timers`: those that wait for an answer, by member."""
        members = [person.member_id for person in self._cast.people]
        there = await load_conversations(connection, member_ids=members)
        self._findings.same("messages", "conversations", self.conversations, there)
        rows = await connection.fetch("select member_id, number, message_id from messages order by member_id, number")
        wanted = {(one.errand.member_id, one.number, one.message_id) for one in self._told.values()}
        self._findings.same_all("messages", "messages", wanted, map(tuple, rows))
        within = load_alert_rules().first_response_within
        waiting = {
            str(one.member_id): (one.awaiting_since + within).astimezone(UTC)
            for one in self.conversations.values()
            if one.awaiting_since is not None
        }
        self._findings.same("timers", FIRST_RESPONSE, waiting, timers)


def screened(one: MessageTold) -> Screening | None:
    """What the words of a message may tell of; of the care team's own nothing."""
    found = find_red_flags(text=one.errand.text, rules=load_phrase_rules())
    if one.errand.role is not None or not found:
        return None
    return screen(findings=[phrase.finding for phrase in found])


def _trigger(one: MessageTold, screening: Screening) -> Trigger:
    message_id = str(one.message_id)
    cause = Cause(COMMANDS, message_id, derive_id(f"{COMMANDS} {message_id}"))
    command = Command(name="send-message", id=message_id, member_id=one.errand.member_id, cause=cause)
    return on_red_flag_phrases(
        screening=screening, command=command, message_id=message_id, phrases_version=load_phrase_rules().version,
        rules=load_trigger_rules(),
    )  # fmt: skip


def _cause(event: CloudEvent) -> tuple[str | None, str | None]:
    return event.causationsource, event.causationid
