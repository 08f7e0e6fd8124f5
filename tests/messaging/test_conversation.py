"""Red-flag words, the wait for an answer, who is told."""

from itertools import pairwise, product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging.domain.conversation import (
    Message,
    RedFlagPhrase,
    add_message,
    find_red_flags,
    route_message,
    start_conversation,
)
from services.messaging.store.rules import load_phrase_rules
from shared.events.vocabulary import SenderRole
from shared.red_flags import BLOCKING, screen
from tests.messaging.given import MEMBER, MINUTE, NOW, PT

RULES = load_phrase_rules()


def found(text: str) -> set[str]:
    return {phrase.finding for phrase in find_red_flags(text=text, rules=RULES)}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("I have had chest pain since this morning", "chest-pain-breathless"),
        ("My chest really hurts", "chest-pain-breathless"),
        ("i can\u2019t breathe", "chest-pain-breathless"),
        ("Me duele mucho el pecho", "chest-pain-breathless"),
        ("siento una OPRESIÓN en el pecho", "chest-pain-breathless"),
        ("sometimes I want to die", "suicidal-thoughts"),
        ("no puedo caminar desde ayer", "cannot-take-4-steps"),
        ("My knee is hot, red and swollen", "hot-swollen-joint"),
        ("mi rodilla está bloqueada", "locked-knee"),
    ],
)
def test_red_flags_in_both_languages(text: str, finding: str) -> None:
    assert finding in found(text)


@pytest.mark.parametrize("sign", ["", "'", "`", "\u00b4", "\u02bc", "\u2018", "\u2019", "\u2032", "\uff07"])
def test_an_apostrophe_is_one_on_whichever_keyboard_and_may_be_left_out(sign: str) -> None:
    assert found(f"I can{sign}t breathe") == {"chest-pain-breathless"}


@pytest.mark.parametrize("text", ["she says \u2018chest pain\u2019", "'chest pain'", "che\u00adst pa\u200bin"])
def test_quotation_marks_and_signs_that_nobody_sees_hide_no_word(text: str) -> None:
    assert found(text) == {"chest-pain-breathless"}


@pytest.mark.parametrize(
    "text",
    [
        "Thank you, the stretch felt good today",
        "Can I walk the dog after the session?",
        "Gracias, hoy me duele menos la rodilla",
        "The chest of drawers was heavy but my knee had no pain in it at all today",
        "I cannot make it on Friday",
    ],
)
def test_everyday_messages_hold_none(text: str) -> None:
    assert found(text) == set()


def test_every_phrase_finds_itself_and_asks_for_a_clinician() -> None:
    assert {phrase.language for phrase in RULES.phrases} == {"en", "es"}
    for phrase in RULES.phrases:
        assert phrase.finding in found(" ".join(phrase.words)), phrase
        assert screen(findings=[phrase.finding]).disposition in BLOCKING, phrase


@given(st.text(max_size=200))
def test_any_text_can_be_looked_through(text: str) -> None:
    find_red_flags(text=text, rules=RULES)


@given(before=st.text(max_size=50), after=st.text(max_size=50), phrase=st.sampled_from(RULES.phrases))
def test_a_phrase_is_found_whatever_stands_around_it(before: str, after: str, phrase: RedFlagPhrase) -> None:
    assert phrase in find_red_flags(text=f"{before} {' '.join(phrase.words)} {after}", rules=RULES)


@given(st.lists(st.sampled_from(["my", "chest", "hurts", "really", "pain"]), max_size=14))
def test_the_words_of_a_phrase_may_stand_so_far_apart_and_no_farther(said: list[str]) -> None:
    phrases = [phrase for phrase in RULES.phrases if set(phrase.words) <= {"my", "chest", "hurts", "really", "pain"}]
    assert phrases
    found = find_red_flags(text=" ".join(said), rules=RULES)
    for phrase in phrases:
        places = [[place for place, word in enumerate(said) if word == one] for one in phrase.words]
        ways = product(*places)
        steps = [[after - before for before, after in pairwise(way)] for way in ways]
        assert (phrase in found) == any(all(1 <= far <= RULES.gap_words_max + 1 for far in way) for way in steps)


def message(number: int, role: SenderRole) -> Message:
    return Message(
        message_id=UUID(int=number), member_id=MEMBER, number=number, sender_role=role, sender_id=PT.practitioner_id,
        sender_name="someone", body="hello", sent_at=NOW + number * MINUTE,
    )  # fmt: skip


@given(st.lists(st.sampled_from(["member", "pt", "coach", "oncall", "system"]), max_size=12))
def test_the_wait_begins_with_the_first_unanswered_message_of_the_member(roles: list[SenderRole]) -> None:
    conversation, expected = start_conversation(member_id=MEMBER), None
    for number, role in enumerate(roles, 1):
        conversation = add_message(conversation=conversation, message=message(number, role))
        if role == "member":
            expected = expected or number
        elif role != "system":
            expected = None
    assert conversation.last_number == len(roles)
    assert (conversation.awaiting_message_id.int if conversation.awaiting_message_id else None) == expected
    assert conversation.awaiting_since == (NOW + expected * MINUTE if expected else None)


def test_who_is_told() -> None:
    assert route_message(sender_role="member", has_team=True) == ("coach", "pt")
    assert route_message(sender_role="member", has_team=False) == ("oncall",)
    assert route_message(sender_role="coach", has_team=True) == ("member",)
