"""The oracle of messages finds what is lost, doubled, invented, out of order or told otherwise."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import cast
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.conversation import route_message, start_conversation
from shared.events import MessageSent
from shared.events.conversations import MessageSentData
from shared.events.vocabulary import SenderRole
from shared.red_flags import screen
from tests.chaos.clients import MessageTold, Told
from tests.chaos.errands import MessageErrand, Role
from tests.chaos.findings import Findings, derive_id
from tests.chaos.messages_oracle import COMMANDS, MessagesOracle, screened
from tests.chaos.people import draw_cast, opening_of
from tests.chaos.wording import ALARMING, HARMLESS

CAST = draw_cast(1)
MEMBER = CAST.people[0].member_id
AT = opening_of(date(2026, 3, 4))
Sent = list[MessageSent]


def told(number: int, role: Role | None, text: str = "Hello.", instruction: str | None = None) -> MessageTold:
    errand = MessageErrand(at_s=1.0, number=number, member_id=MEMBER, role=role, is_doubled=False, text=text)
    return MessageTold(errand, UUID(int=number), number, instruction)


def sent(one: MessageTold) -> MessageSent:
    """As messaging tells it."""
    role: SenderRole = one.errand.role or "member"
    who = {"pt": CAST.pt, "coach": CAST.coach}.get(role)
    command = f"messaging command send-message {one.message_id} {COMMANDS} {one.message_id} 0"
    return MessageSent(
        id=derive_id(command), source="urn:careloop:messaging", time=AT + timedelta(minutes=one.number),
        subject=MEMBER, causationsource=COMMANDS, causationid=str(one.message_id), correlationid="chain",
        data=MessageSentData(
            conversation_id=start_conversation(member_id=MEMBER).conversation_id, message_id=one.message_id,
            sender_role=role, sender_id=who.practitioner_id if who else MEMBER,
            recipients=route_message(sender_role=role, has_team=True),
        ),
    )  # fmt: skip


TOLD = Told(messages=[told(1, None), told(2, "coach"), told(3, None), told(4, "pt"), told(5, None)])


def judged(events: Sent, said: Told = TOLD) -> tuple[MessagesOracle, str]:
    oracle = MessagesOracle(CAST, said, events, Findings())
    oracle.judge()
    return oracle, "\n".join(map(str, oracle._findings.found))


def test_what_follows_is_found_right() -> None:
    oracle, wrong = judged([sent(one) for one in TOLD.messages])
    assert wrong == ""
    conversation = oracle.conversations[MEMBER]
    assert (conversation.last_number, conversation.awaiting_message_id) == (5, UUID(int=5))
    assert list(oracle.to_announce.values()) == [True, False], "one may stand for both"


@pytest.mark.parametrize(
    "change",
    [
        lambda there: there[1:],
        lambda there: [*there, there[1].model_copy(update={"id": str(uuid4())})],
        lambda there: [there[1], there[0], *there[2:]],
        lambda there: [there[0].model_copy(update={"subject": uuid4()}), *there[1:]],
        lambda there: [there[0].model_copy(update={"causationid": "another"}), *there[1:]],
        lambda there: [there[0].model_copy(update={"id": "another"}), *there[1:]],
        lambda there: [there[0].model_copy(update={"data": there[1].data}), *there[1:]],
    ],
    ids=["lost", "told twice", "out of order", "of another member", "of another cause", "renamed", "of another"],
)
def test_what_does_not_follow_is_found(change: Callable[[Sent], Sent]) -> None:
    assert "messages: " in judged(change([sent(one) for one in TOLD.messages]))[1]


def test_a_message_that_was_not_taken_or_became_two_is_found() -> None:
    events = [sent(one) for one in TOLD.messages]
    assert "not taken: no-such-alert" in judged(events, Told(messages=TOLD.messages, refused=["no-such-alert"]))[1]
    twice = MessageTold(TOLD.messages[0].errand, UUID(int=1), 9)
    assert "identities" in judged(events, Told(messages=[*TOLD.messages, twice]))[1]


def test_words_of_a_red_flag_tell_the_member_what_to_do_and_ask_for_a_clinician() -> None:
    instruction = screen(findings=["locked-knee"]).instruction["en"]
    words = "The knee locked on the stairs."
    said = Told(messages=[told(1, None, words, instruction), told(2, "pt", words), told(3, None)])
    oracle, wrong = judged([sent(one) for one in said.messages], said)
    assert wrong == ""
    (trigger,) = oracle.red_flags()[MEMBER]
    assert (trigger.kind, trigger.priority, trigger.episode_key) == ("safety", "urgent", str(UUID(int=1)))
    for number, role, text in ((1, None, words), (2, "pt", "Hello."), (3, None, "Hello.")):
        otherwise = told(number, cast(Role | None, role), text, None if number == 1 else instruction)
        several = [otherwise if one.number == number else one for one in said.messages]
        assert "told to do" in judged([sent(one) for one in several], Told(messages=several))[1]


def test_what_alarms_is_a_red_flag_and_what_is_harmless_is_none() -> None:
    assert all(screened(told(1, None, text)) is not None for text in ALARMING)
    assert all(screened(told(1, None, text)) is None for text in HARMLESS)
    assert all(screened(told(1, "coach", text)) is None for text in ALARMING)
