"""Every language says the same things, every key that a page uses exists, and none is there for nothing."""

import re
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import pytest

from services.messaging.pages.saying import REFUSALS, SAID
from services.messaging.pages.wording import FOLDER, LANGUAGES, Wording, load_wording
from shared.events.catalogue import EVENTS
from shared.events.conversations import AlertOutcome
from shared.events.visits import VisitReason
from shared.events.vocabulary import (
    AlertKind,
    AlertPriority,
    Cause,
    Exercise,
    PainContext,
    PlanAction,
    TreatmentElement,
)

PAGES = FOLDER.parent
CLOSED_LISTS: dict[str, Any] = {
    "kind": AlertKind,
    "priority": AlertPriority,
    "outcome": AlertOutcome,
    "reason": VisitReason,
    "cause": Cause,
    "exercise": Exercise,
    "context": PainContext,
    "plan-action": PlanAction,
    "element": TreatmentElement,
}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_every_language_has_every_text_with_the_same_values(language: str) -> None:
    english, other = load_wording("en"), load_wording(language)
    assert set(english) == set(other)
    assert {key for key in english if fields(english[key]) != fields(other[key])} == set()
    assert all(text.strip() for text in other.values())


def used_keys() -> set[str]:
    """Keys written out in templates and code; a key that is put together counts by its beginning."""
    sources = [*(PAGES / "templates").rglob("*.html"), *PAGES.glob("*.py")]
    text = "\n".join(Path(source).read_text() for source in sources)
    return set(re.findall(r"""(?:say|wording_for_member|page\.say)\(\s*f?['"]([a-z0-9.\-]+)""", text))


def test_every_key_that_a_page_says_exists() -> None:
    known = load_wording("en")
    unknown = {key for key in used_keys() if key not in known and not any(k.startswith(key) for k in known)}
    assert unknown == set()


def test_every_word_of_the_closed_lists_has_its_text() -> None:
    known = load_wording("en")
    missing = [
        f"{group}.{word}"
        for group, words in CLOSED_LISTS.items()
        for word in get_args(words)
        if f"{group}.{word}" not in known
    ]
    missing += [f"event.{event.NAME}" for event in EVENTS.values() if f"event.{event.NAME}" not in known]
    missing += [key for code in SAID if (key := f"said.{code}") not in known]
    missing += [key for code in REFUSALS if (key := f"refusal.{code}") not in known]
    assert missing == []


def test_one_is_said_in_the_singular_and_a_word_of_tomorrow_as_it_is() -> None:
    say = Wording("en")
    assert say("queue.waiting", n=1) == "1 needs a person"
    assert say("queue.waiting", n=2) == "2 need a person"
    assert say.word("kind", "something-new") == "something new"
    with pytest.raises(KeyError):
        say("no.such.key")
