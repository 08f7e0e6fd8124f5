"""One conversation per member, with the whole care team."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from shared.events.envelope import NAMESPACE
from shared.events.vocabulary import Finding, Language, SenderRole

Recipient = Literal["member", "pt", "coach", "oncall"]
APOSTROPHES = str.maketrans("", "", "'`\u00b4\u02bb\u02bc\u2018\u2019\u201b\u2032\uff07")
"""What is written for one. The acute accent by itself, a key of its own where Spanish is written, would else become a
space."""
UNSEEN = frozenset({"Mn", "Me", "Cf"})
"""Categories of accents that stand apart from their letter, soft hyphens and the like."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    message_id: UUID
    member_id: UUID
    number: int
    """1, 2, 3 ... within the conversation."""
    sender_role: SenderRole
    sender_id: UUID
    sender_name: str
    body: str
    sent_at: datetime
    alert_id: UUID | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    member_id: UUID
    conversation_id: UUID
    last_number: int = 0
    last_message_at: datetime | None = None
    awaiting_message_id: UUID | None = None
    """The member's first message that nobody has answered."""
    awaiting_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RedFlagPhrase:
    """Words that, in this order and close together, are treated as a red flag (library/red_flag_phrases.yaml)."""

    language: Language
    words: tuple[str, ...]
    finding: Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseRules:
    version: int
    gap_words_max: int
    """Other words allowed between two words of a phrase."""
    phrases: tuple[RedFlagPhrase, ...]


def start_conversation(*, member_id: UUID) -> Conversation:
    """The member's conversation before its first message. Its id follows from the member's."""
    return Conversation(member_id=member_id, conversation_id=uuid5(NAMESPACE, f"conversation {member_id}"))


def add_message(*, conversation: Conversation, message: Message) -> Conversation:
    """The conversation after a message: a member's first unanswered one starts the wait, any answer ends it."""
    awaiting_id, awaiting_since = conversation.awaiting_message_id, conversation.awaiting_since
    if message.sender_role == "member":
        if awaiting_id is None:
            awaiting_id, awaiting_since = message.message_id, message.sent_at
    elif message.sender_role != "system":
        awaiting_id = awaiting_since = None
    return replace(
        conversation,
        last_number=message.number,
        last_message_at=message.sent_at,
        awaiting_message_id=awaiting_id,
        awaiting_since=awaiting_since,
    )


def end_wait(*, conversation: Conversation, later: Message | None) -> Conversation:
    """What waited has been dealt with otherwise, by phone perhaps. `later` is the member's first message that the one
    who says so was not asked about: it waits from when it was sent."""
    return replace(
        conversation,
        awaiting_message_id=later.message_id if later else None,
        awaiting_since=later.sent_at if later else None,
    )


def route_message(*, sender_role: SenderRole, has_team: bool) -> tuple[Recipient, ...]:
    """Who is told. A member writes to their team, and to the on-call clinician while they have none."""
    if sender_role != "member":
        return ("member",)
    return ("coach", "pt") if has_team else ("oncall",)


def normalize_text(text: str) -> list[str]:
    """Lower-case words without accents, apostrophes and signs that nobody sees, so that "opresión" and "opresion" are
    one word, and "can't" and "cant" are, whichever key the apostrophe is of."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(APOSTROPHES))
    return re.findall(r"[a-z0-9]+", "".join(c for c in plain if unicodedata.category(c) not in UNSEEN))


def find_red_flags(*, text: str, rules: PhraseRules) -> list[RedFlagPhrase]:
    """Phrases of any language found in the text: a member may write in either. Errs upward: "no chest pain" is found
    too, a person reads it within minutes, whereas a missed one might not be read for hours."""
    said = normalize_text(text)
    return [phrase for phrase in rules.phrases if _says(said=said, words=phrase.words, gap=rules.gap_words_max)]


def _says(*, said: Sequence[str], words: Sequence[str], gap: int) -> bool:
    places = {place for place, word in enumerate(said) if word == words[0]}
    for word in words[1:]:
        places = {
            place
            for place, other in enumerate(said)
            if other == word and any(place - 1 - between in places for between in range(gap + 1))
        }
    return bool(places)
