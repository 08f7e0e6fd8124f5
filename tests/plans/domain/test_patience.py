"""Which answers of an app may wait a moment for company: none that somebody is told of at once."""

from uuid import uuid4

from services.plans.domain.pain_spike import detect_pain_spike
from services.plans.subscriptions import is_calm_here
from shared.events.codec import encode
from tests.plans.given import LIBRARY, MONDAY, pain_reported, seconds, session_completed

SCORES = range(11)
NOW_S = seconds(MONDAY)


def may_be_a_spike(score: int) -> bool:
    """For some member, after some reading."""
    return any(
        detect_pain_spike(score=score, at_s=NOW_S, baseline=float(usual), previous=previous, rules=LIBRARY.pain)
        for usual in SCORES
        for previous in (None, (NOW_S, 10.0))
    )


def test_what_may_be_a_spike_never_waits_and_the_rest_may() -> None:
    waiting = [score for score in SCORES if not may_be_a_spike(score)]
    reports = {score: pain_reported(uuid4(), at=MONDAY, score=score) for score in SCORES}
    sessions = {score: session_completed(uuid4(), at=MONDAY, pain_during=score) for score in SCORES}
    for events in (reports, sessions):
        assert [score for score, event in events.items() if is_calm_here(encode(event))] == waiting


def test_who_ticks_a_warning_sign_never_waits() -> None:
    assert not is_calm_here(encode(pain_reported(uuid4(), at=MONDAY, score=0, findings=("locked-knee",))))
