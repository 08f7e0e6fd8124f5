"""Many requests ask the inbox one question together, and each gets the answer about its own events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.plans.api import known_events
from services.plans.api.events import _tell
from services.plans.api.known_events import KnownEvents
from shared.inbox import Found

TAKEN = Found("applied", None, b"digest")


class Inbox:
    """Stands for service and pool: holds events whose number is even, notes what it was asked, fails when told to."""

    def __init__(self) -> None:
        self.questions: list[list[tuple[str, str]]] = []
        self.failure: Exception | None = None
        self.requests = self
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        yield

    async def answer(self, _: None, *, events: Sequence[tuple[str, str]], **__: Any) -> dict[tuple[str, str], Found]:
        self.questions.append(list(events))
        self.asked.set()
        await asyncio.sleep(0)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {ref: TAKEN for ref in events if int(ref[1]) % 2 == 0}


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Inbox:
    made = Inbox()
    monkeypatch.setattr(known_events, "find_outcomes", made.answer)
    return made


def ref(number: int) -> tuple[str, str]:
    return ("urn:test:app", str(number))


async def test_requests_at_once_ask_together_and_each_is_answered(inbox: Inbox) -> None:
    known = KnownEvents(inbox)  # type: ignore[arg-type]
    answers = await asyncio.gather(*(known.find([ref(number)]) for number in range(20)))
    assert [ref(number) in found for number, found in enumerate(answers)] == [n % 2 == 0 for n in range(20)]
    assert len(inbox.questions) == 1


async def test_what_comes_while_a_question_is_under_way_is_in_the_next(inbox: Inbox) -> None:
    known = KnownEvents(inbox)  # type: ignore[arg-type]
    inbox.may_answer.clear()
    first = asyncio.create_task(known.find([ref(0)]))
    await inbox.asked.wait()
    coming = [asyncio.create_task(known.find([ref(number)])) for number in (2, 3)]
    await asyncio.sleep(0)  # until they have come
    inbox.may_answer.set()
    later = await asyncio.gather(*coming)
    assert await first == {ref(0): TAKEN}
    assert [ref(2) in later[0], ref(3) in later[1]] == [True, False]
    assert [sorted(asked) for asked in inbox.questions] == [[ref(0)], [ref(2), ref(3)]]


async def test_a_database_that_fails_leaves_it_to_the_consumers(inbox: Inbox) -> None:
    known = KnownEvents(inbox)  # type: ignore[arg-type]
    inbox.failure = ConnectionResetError()
    assert await asyncio.gather(*(known.find([ref(number)]) for number in range(3))) == [{}, {}, {}]


async def test_a_bug_is_raised_to_whoever_asked_and_to_nobody_later(inbox: Inbox) -> None:
    known = KnownEvents(inbox)  # type: ignore[arg-type]
    inbox.failure = KeyError("bug")
    answers = await asyncio.gather(*(known.find([ref(number)]) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [KeyError] * 3
    inbox.failure = None
    assert await known.find([ref(4)]) == {ref(4): TAKEN}


async def test_a_request_that_goes_away_takes_nobody_with_it(inbox: Inbox) -> None:
    known = KnownEvents(inbox)  # type: ignore[arg-type]
    leaving, staying = (asyncio.create_task(known.find([ref(number)])) for number in (0, 2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying)[ref(2)] == TAKEN


def test_what_an_operator_has_discarded_never_took_effect() -> None:
    """And is told so, whatever it was held for; what is parked still may."""
    assert _tell(Found("discarded", "bug", b"digest")) == ("dead", "bug")
    assert _tell(Found("parked", "behind", b"digest")) == ("waiting", "behind")
