"""What a batch makes of attempts that were not begun in time, and of those that are cut off when the process ends."""

import asyncio
from typing import Any

import pytest

from services.notifications.domain.delivery import AttemptResult, NoAnswer
from services.notifications.handlers.claim_sends import Attempt
from services.notifications.sender.lines import NOT_BEGUN, Lines
from services.notifications.sender.mail import MailLine
from services.notifications.sender.text import TextLine
from shared.clock import WallClock, monotonic
from tests.fixtures.eventually import eventually
from tests.notifications.test_channels import settings
from tests.notifications.test_rendering import LETTERHEAD, attempt

SMS = {"sms_url": "http://127.0.0.1:9", "sms_account": "AC1", "sms_token": "token", "sms_from": "+15550000"}
Noted = list[tuple[str, AttemptResult]]


def lines_of(noted: Noted) -> Lines:
    def note(one: Attempt, result: AttemptResult) -> None:
        noted.append((one.channel, result))

    return Lines(settings(**SMS), LETTERHEAD, name="sender", count=1, clock=WallClock(), note=note)


async def test_what_is_not_begun_in_time_goes_back_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time it would have been answered it is given up, and sent again if it is a page."""
    noted, sent = Noted(), list[str]()

    async def send(self: object, *_: Any, to: str, **__: Any) -> AttemptResult:
        sent.append(to)
        return NoAnswer()

    monkeypatch.setattr(MailLine, "send", send)
    monkeypatch.setattr(TextLine, "send", send)
    lines = lines_of(noted)
    late = [attempt("nudge", "en"), attempt("nudge", "en", channel="sms", address="+15550001")]
    await lines.send(late, begin_until=monotonic() - 1)
    await lines.close()
    assert (noted, sent) == ([("email", NOT_BEGUN), ("sms", NOT_BEGUN)], [])


@pytest.mark.parametrize(
    ("channel", "handed_over", "result"),
    [("email", False, NOT_BEGUN), ("email", True, NoAnswer()), ("sms", False, NoAnswer())],
)
async def test_what_is_cut_off_may_have_arrived_unless_it_is_known_that_it_has_not(
    channel: str, handed_over: bool, result: AttemptResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text is out with its request; a mail only once it was handed over. What may have arrived is not sent again."""
    noted, begun = Noted(), asyncio.Event()

    async def send(self: Any, *_: Any, **__: Any) -> AttemptResult:
        self.handed_over = handed_over
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(MailLine, "send", send)
    monkeypatch.setattr(TextLine, "send", send)
    lines = lines_of(noted)
    sending = asyncio.create_task(lines.send([attempt("nudge", "en", channel=channel)], begin_until=monotonic() + 60))
    await eventually(begun.is_set)
    await lines.cut()
    await sending
    await lines.close()
    assert noted == [(channel, result)]
