"""Consent: the latest word decides, silence is no consent, and STOP is understood however it is written."""

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.consent import Consent, is_permitted
from services.notifications.domain.opt_out import OPT_OUT_WORDS, read_reply
from services.notifications.domain.text_signatures import is_signed, text_signature
from services.notifications.domain.unsubscribe_links import UnsubscribeLink, read_link, seal_link

START = datetime(2026, 3, 1, tzinfo=UTC)
hours = st.integers(0, 50).map(lambda count: START + timedelta(hours=count))
consents = st.builds(
    Consent,
    channel=st.sampled_from(["email", "sms"]),
    topic=st.sampled_from(["all", "nudge", "visit-reminder"]),
    granted=st.booleans(),
    given_at=hours,
)


def word(*, granted: bool, hour: int, topic: Any = "all", channel: Any = "sms") -> Consent:
    return Consent(channel=channel, topic=topic, granted=granted, given_at=START + timedelta(hours=hour))


def may_text(*words: Consent, opted_out_hour: int | None = None) -> bool:
    opted_out_at = None if opted_out_hour is None else START + timedelta(hours=opted_out_hour)
    return is_permitted(consents=words, opted_out_at=opted_out_at, channel="sms", topic="nudge")


def test_silence_is_no_consent() -> None:
    assert not may_text()
    assert not may_text(word(granted=True, hour=1, channel="email"))
    assert not may_text(word(granted=True, hour=1, topic="visit-reminder"))


def test_the_latest_word_that_covers_the_topic_decides() -> None:
    assert may_text(word(granted=True, hour=1))
    assert not may_text(word(granted=True, hour=1), word(granted=False, hour=2, topic="nudge"))
    assert may_text(word(granted=False, hour=1), word(granted=True, hour=2, topic="nudge"))
    assert not may_text(word(granted=True, hour=1, topic="nudge"), word(granted=False, hour=2))
    assert may_text(word(granted=True, hour=1), word(granted=False, hour=2, topic="visit-reminder"))


def test_of_two_words_at_once_the_refusal_stands() -> None:
    assert not may_text(word(granted=True, hour=1, topic="nudge"), word(granted=False, hour=1))


def test_stop_holds_until_a_later_grant() -> None:
    assert not may_text(word(granted=True, hour=1), opted_out_hour=2)
    assert may_text(word(granted=True, hour=3), opted_out_hour=2)


@given(words=st.lists(consents, max_size=6), after=st.integers(51, 60))
def test_a_refusal_of_everything_ends_whatever_came_before(words: list[Consent], after: int) -> None:
    assert not may_text(*words, word(granted=False, hour=after))
    assert not may_text(*words, opted_out_hour=after)


@given(words=st.permutations([word(granted=True, hour=1), word(granted=False, hour=2), word(granted=True, hour=3)]))
def test_the_order_in_which_words_come_does_not_matter(words: list[Consent]) -> None:
    assert may_text(*words)


@given(
    word=st.sampled_from(sorted(OPT_OUT_WORDS)),
    before=st.sampled_from(["", " ", "  \n", "Please ", "por favor, ", "Hi. "]),
    after=st.sampled_from(["", ".", "!!!", " \n", " please", ", thanks", " 🙏"]),
    upper=st.booleans(),
)
def test_the_words_of_the_rule_are_understood_in_any_dress(word: str, before: str, after: str, upper: bool) -> None:
    text = f"{before}{word}{after}"
    assert read_reply(text.upper() if upper else text) == "opt-out"


@pytest.mark.parametrize(
    "text",
    [
        "Stop texting me", "STOP SENDING ME THIS", "please stop all messages", "don't text me anymore",
        "Don’t ever... do not contact me again", "no more texts", "take me off this list", "I want to opt out",
        "remove my number", "I revoke my consent to be texted", "wrong number", "Unsubscribe me", "leave me alone",
        "cancel these reminders", "end all messages", "I don't want to get these messages",
        "No más mensajes", "no me escriban más", "ya no quiero recibir mensajes. no quiero recibir más mensajes",
        "dejen de mandarme mensajes", "Alto", "BAJA", "número equivocado", "quiero darme de baja",
    ],
)  # fmt: skip
def test_other_ways_to_say_it(text: str) -> None:
    assert read_reply(text) == "opt-out"


@pytest.mark.parametrize(
    "text",
    [
        "", "ok", "Thanks!", "I had to stop at the third set, it hurt", "Can you cancel my visit on Monday?",
        "the end of the week works better", "Is it ok to quit the squats?", "nonstop pain since yesterday",
        "gracias, muy bien", "tuve que parar por el dolor", "my calendar ends at 5",
        "remove the bridge from my plan please",
    ],
)  # fmt: skip
def test_what_is_said_about_care_is_not_an_opt_out(text: str) -> None:
    assert read_reply(text) == "other"


@pytest.mark.parametrize("text", ["START", "unstop", "Start please", "Empezar"])
def test_the_way_back(text: str) -> None:
    assert read_reply(text) == "opt-in"


@given(text=st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert read_reply(text) in ("opt-out", "opt-in", "other")


links = st.builds(
    UnsubscribeLink,
    member_id=st.uuids(),
    topic=st.sampled_from(["nudge", "session-reminder", "visit-reminder", "message", "milestone"]),
)


@given(link=links, secret=st.text(min_size=1))
def test_a_link_says_who_leaves_what(link: UnsubscribeLink, secret: str) -> None:
    token = seal_link(link=link, secret=secret)
    assert read_link(token=token, secret=secret) == link
    assert read_link(token=token, secret=secret + "x") is None
    assert token == seal_link(link=link, secret=secret), "a message that is rendered again is the same"


@given(link=links, secret=st.text(min_size=1))
def test_a_link_shows_no_part_of_who_it_is_for(link: UnsubscribeLink, secret: str) -> None:
    token = seal_link(link=link, secret=secret)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token), "it goes into a URL as it is"
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for said in (str(link.member_id).encode(), link.member_id.hex.encode(), link.member_id.bytes, link.topic.encode()):
        for part in (said, said[:8], said[-8:]):
            assert part not in raw
            assert part not in token.encode()
    other = UnsubscribeLink(member_id=UUID(int=link.member_id.int ^ 1), topic=link.topic)
    assert seal_link(link=other, secret=secret)[:8] != token[:8]


@given(link=links, cut=st.integers(0, 70), noise=st.text(max_size=5))
def test_a_link_that_was_changed_is_nobodys(link: UnsubscribeLink, cut: int, noise: str) -> None:
    token = seal_link(link=link, secret="secret")
    changed = token[:cut] + noise + token[cut + 1 :]
    found = read_link(token=changed, secret="secret")
    assert found is None or found == link


@given(token=st.text(max_size=80))
def test_any_text_is_no_link(token: str) -> None:
    assert read_link(token=token, secret="secret") is None


def test_a_webhook_signature_is_made_as_the_provider_documents_it() -> None:
    """The worked example of Twilio's security documentation, with its test token 12345."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675309",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert text_signature(url=url, fields=fields, secret="12345") == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert is_signed(url=url, fields=fields, secret="12345", signature="RSOYDt4T1cUTdK1PDd93/VVr8B8=")
    assert not is_signed(
        url=url, fields={**fields, "Digits": "1235"}, secret="12345", signature="RSOYDt4T1cUTdK1PDd93/VVr8B8="
    )
