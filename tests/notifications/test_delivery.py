"""What becomes of a notification whose time has come, and of an attempt that was answered."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.consent import Consent
from services.notifications.domain.delivery import (
    Accepted,
    Defer,
    Fail,
    NoAnswer,
    NotNow,
    PastSend,
    Refused,
    Send,
    Settled,
    Suppress,
    decide_delivery,
    settle_attempt,
)
from services.notifications.domain.notification import Notification
from services.notifications.domain.recipient import NOBODY, Contact, Recipient
from services.notifications.store.library import load_policy
from shared.outcomes import Cause

POLICY = load_policy()
NOON = datetime(2026, 3, 2, 17, 0, tzinfo=UTC)
"""12:00 in New York."""
MIDNIGHT = NOON + timedelta(hours=12)
GRANTED = NOON - timedelta(days=30)
BOTH = frozenset({"email", "sms"})


def planned(topic: Any = "nudge", **changes: Any) -> Notification:
    fields: dict[str, Any] = {
        "notification_id": UUID(int=1), "member_id": UUID(int=2), "topic": topic, "template": topic, "about": "lapse",
        "not_before": NOON, "stale_at": NOON + timedelta(days=2), "cause": Cause(source="test", id="1", chain="1"),
    }  # fmt: skip
    return Notification(**{**fields, **changes})


def consent(channel: Any, *, granted: bool = True) -> Consent:
    return Consent(channel=channel, topic="all", granted=granted, given_at=GRANTED)


def reader(**changes: Any) -> Recipient:
    contact = Contact(
        given_name="Ana", email="ana@example.org", phone="+15550100", time_zone="America/New_York", language="en"
    )
    fields: dict[str, Any] = {"status": "enrolled", "contact": contact, "consents": (consent("email"), consent("sms"))}
    return Recipient(**{**fields, **changes})


def decide(one: Notification, to: Recipient, *, now: datetime = NOON, **changes: Any) -> Any:
    options: dict[str, Any] = {"past": [], "channels": BOTH, "mailboxes": {}, "policy": POLICY}
    return decide_delivery(notification=one, recipient=to, now=now, **{**options, **changes})


def test_by_day_it_goes_out_on_the_preferred_channel() -> None:
    assert decide(planned(), reader()) == Send(channel="email", address="ana@example.org")


def test_without_consent_to_one_channel_the_other_is_used() -> None:
    assert decide(planned(), reader(consents=(consent("sms"),))) == Send(channel="sms", address="+15550100")
    only_email = decide(planned(), reader(consents=(consent("sms"),)), channels=frozenset({"email"}))
    assert only_email == Suppress(reason="no-consent")


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (reader(consents=()), "no-consent"),
        (reader(consents=(consent("email", granted=False), consent("sms", granted=False))), "no-consent"),
        (reader(status="disenrolled"), "disenrolled"),
        (reader(status="paused"), "paused"),
        (reader(status="paused", paused_until=NOON + timedelta(hours=1)), "paused"),
    ],
)
def test_who_is_not_written_to(to: Recipient, reason: str) -> None:
    assert decide(planned(), to) == Suppress(reason=reason)  # type: ignore[arg-type]  # a parameter


def test_a_pause_that_has_ended_or_a_visit_is_no_obstacle() -> None:
    assert isinstance(decide(planned(), reader(status="paused", paused_until=NOON)), Send)
    assert isinstance(decide(planned("visit-reminder"), reader(status="paused")), Send)


def test_a_member_without_any_address_is_not_waited_for() -> None:
    contact = Contact(given_name="Ana", email=None, phone=None, time_zone="America/New_York", language="en")
    assert decide(planned(), reader(contact=contact)) == Suppress(reason="no-address")


def test_what_is_not_known_yet_is_waited_for_until_stale() -> None:
    for to in (NOBODY, reader(contact=None), reader(status="unknown", consents=())):
        assert decide(planned(), to) == Defer(until=NOON + POLICY.look_again_after)
    one = planned()
    assert decide(one, NOBODY, now=one.stale_at - timedelta(minutes=1)) == Defer(until=one.stale_at)
    assert decide(one, NOBODY, now=one.stale_at) == Suppress(reason="no-address")


def test_at_night_it_waits_for_morning_and_a_stale_one_expires() -> None:
    decision = decide(planned(), reader(), now=MIDNIGHT)
    assert isinstance(decision, Defer)
    assert NOON + timedelta(hours=20) <= decision.until < NOON + timedelta(hours=20, minutes=20)
    assert decide(planned(), reader(), now=NOON + timedelta(days=2)) == Suppress(reason="stale")


def test_a_page_goes_out_at_any_hour_to_the_mailbox_of_its_role() -> None:
    page = planned("safety-page", page_role="oncall")
    mailboxes = {"oncall": "oncall@clinic.example"}
    for now in (NOON, MIDNIGHT):
        assert decide(page, NOBODY, now=now, mailboxes=mailboxes) == Send(
            channel="email", address="oncall@clinic.example"
        )
    assert decide(page, NOBODY, mailboxes={"pt": "pt@clinic.example"}) == Fail(reason="no-address")


def test_what_could_not_be_handed_over_until_stale_has_failed() -> None:
    one = planned(last_error="smtp-unreachable")
    assert decide(one, reader(), now=one.stale_at) == Fail(reason="unreachable")


def sends(count: int, *, topic: Any = "nudge", channel: Any = "email", hours_ago: float = 1) -> list[PastSend]:
    return [PastSend(channel=channel, topic=topic, at=NOON - timedelta(hours=hours_ago)) for _ in range(count)]


@pytest.mark.parametrize(
    ("past", "channel"),
    [
        (sends(1), "email"),
        (sends(2), "sms"),
        (sends(1) + sends(1, topic="milestone"), "sms"),
        (sends(2, hours_ago=25), "email"),
        (sends(6, hours_ago=100), "sms"),
        (sends(6, hours_ago=169), "email"),
        (sends(2, topic="session-reminder"), "email"),
        (sends(2) + sends(1, topic="visit-reminder", channel="sms"), None),
        (sends(2) + sends(3, channel="sms", hours_ago=50), None),
    ],
)
def test_caps_move_to_another_channel_and_then_suppress(past: list[PastSend], channel: str | None) -> None:
    decision = decide(planned(), reader(), past=past)
    if channel is None:
        assert isinstance(decision, Suppress)
        assert (decision.reason, decision.cap and decision.cap.rule.id) == (
            "frequency-cap",
            "notifications.cap-encouragement",
        )
    else:
        assert decision.channel == channel


@given(
    topic=st.sampled_from(["nudge", "message", "milestone", "session-reminder", "visit-reminder"]),
    minutes=st.integers(0, 3 * 24 * 60),
    zone=st.sampled_from(["America/New_York", "Pacific/Honolulu", "America/Phoenix", "no/zone"]),
    past=st.lists(
        st.builds(
            PastSend,
            channel=st.sampled_from(["email", "sms"]),
            topic=st.sampled_from(["nudge", "message"]),
            at=st.integers(0, 200).map(lambda hours: NOON - timedelta(hours=hours)),
        ),
        max_size=8,
    ),
)
def test_quiet_hours_move_and_never_end_a_notification(topic: Any, minutes: int, zone: str, past: Any) -> None:
    """The same notification is decided alike by night and by day, but that the night defers it."""
    now = NOON + timedelta(minutes=minutes)
    one = planned(topic, not_before=now, stale_at=now + timedelta(days=4))
    contact = Contact(given_name="A", email="a@example.org", phone=None, time_zone=zone, language="en")
    decision = decide(one, reader(contact=contact), now=now, past=past)
    if isinstance(decision, Defer):
        assert now < decision.until < now + timedelta(days=1)
        later = decide(one, reader(contact=contact), now=decision.until)
        assert isinstance(later, Send)
    else:
        assert isinstance(decision, Send) or (isinstance(decision, Suppress) and decision.reason == "frequency-cap")


def settle(result: Any, **changes: Any) -> Settled:
    options: dict[str, Any] = {
        "failures": 0,
        "is_moot": False,
        "is_page": False,
        "stale_at": NOON + timedelta(days=2),
        "now": NOON,
    }
    return settle_attempt(result=result, policy=POLICY, **{**options, **changes})


def test_what_an_answer_means() -> None:
    assert settle(Accepted()).state == "sent"
    assert (settle(Refused(code="smtp-550")).state, settle(Refused(code="smtp-550")).failure) == ("failed", "rejected")
    assert (settle(NoAnswer()).state, settle(NoAnswer()).failure) == ("unknown", "unknown-result")


@given(result=st.sampled_from([NoAnswer(), Accepted(), Refused(code="x")]), failures=st.integers(0, 20))
def test_only_what_was_surely_not_accepted_is_ever_tried_again(result: Any, failures: int) -> None:
    assert settle(result, failures=failures).state in ("sent", "failed", "unknown")


def test_a_page_that_may_not_have_arrived_is_sent_again_for_a_while() -> None:
    waits, failures = [], 0
    while (again := settle(NoAnswer(), failures=failures, is_page=True)).state == "planned":
        assert again.is_failure
        assert again.not_before is not None
        waits.append((again.not_before - NOON) / timedelta(minutes=1))
        failures += 1
    assert waits == [1, 2, 4, 8, 16, 32, 60]
    assert (again.state, again.failure) == ("unknown", "unknown-result"), "and then it alarms"
    late = settle(NoAnswer(), is_page=True, stale_at=NOON + timedelta(seconds=30))
    assert late.state == "unknown"
    assert settle(NoAnswer(), is_page=True, is_moot=True).state == "suppressed", "somebody took the alert on"


def test_later_attempts_wait_longer_and_come_to_an_end() -> None:
    waits = []
    for failures in range(POLICY.attempts_max):
        settled = settle(NotNow(code="smtp-451"), failures=failures)
        if settled.not_before is not None:
            waits.append(settled.not_before - NOON)
    assert waits == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 32, 60)]
    assert settle(NotNow(code="smtp-451"), failures=POLICY.attempts_max - 1).failure == "unreachable"


def test_it_is_not_tried_again_once_stale_or_moot() -> None:
    assert settle(NotNow(code="smtp-451"), stale_at=NOON + timedelta(seconds=30)).failure == "unreachable"
    for is_down in (False, True):
        assert settle(NotNow(code="x", provider_down=is_down), is_moot=True).state == "suppressed"
    assert settle(Accepted(), is_moot=True).state == "sent", "what was accepted was sent"


def test_a_provider_that_is_down_costs_the_message_nothing() -> None:
    settled = settle(NotNow(code="smtp-unreachable", provider_down=True), failures=7)
    assert (settled.state, settled.not_before, settled.is_failure) == ("planned", NOON, False)
