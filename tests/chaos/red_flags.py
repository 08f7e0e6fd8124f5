"""Red flags come to messaging by two ways: plans tells of those of sessions and reports, and messages hold words. Each
way has its order. How they lie between each other no event tells: what the safety group decides overtakes the rest, and
the clock of the machine may have been off. So whatever order explains all that the log tells is right."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice

from services.messaging.domain.alert import Trigger
from services.messaging.domain.triggers import on_safety_flagged
from services.messaging.store.rules import load_trigger_rules
from shared.events import CloudEvent, SafetyFlagged
from tests.chaos.clients import AlertDeed
from tests.chaos.messaging_oracle import Mark, MessagingOracle

OFF_MAX = timedelta(minutes=5)
"""What lies further apart by its time is in that order."""
ORDERS_MAX = 50


def triggers_of(events: Sequence[CloudEvent]) -> list[Trigger]:
    """What the red flags of one member ask for, in their order."""
    flags = [event for event in events if isinstance(event, SafetyFlagged)]
    asked = [on_safety_flagged(event=event, rules=load_trigger_rules()) for event in flags]
    return [trigger for trigger in asked if trigger is not None]


def follow_red_flags(
    oracle: MessagingOracle, flags: Sequence[Trigger], words: Sequence[Trigger], done: Counter[AlertDeed]
) -> None:
    """Of one member. `done`: what people may have done about alerts, and how often at most."""
    if not flags and not words:
        return
    began = oracle.mark()
    orders = list(islice(_orders(oracle, tuple(flags), tuple(words), done), ORDERS_MAX))
    oracle.back_to(began)
    if not orders:
        # None explains everything: what is wrong with the likeliest.
        _follow_likeliest(oracle, list(flags), list(words))
        return
    oracle.back_to(orders[0])
    for other in orders[1:]:
        for alert_id, alert in other.alerts.items():
            if alert != oracle.alerts.get(alert_id):
                oracle.or_else.setdefault(alert_id, []).append(alert)


def _orders(
    oracle: MessagingOracle, flags: Sequence[Trigger], words: Sequence[Trigger], done: Counter[AlertDeed]
) -> Iterator[Mark]:
    """How far the oracle is after each order that explains all, the likeliest first."""
    before = oracle.mark()
    for several in _next(oracle, flags, words):
        oracle.ask(several[0])
        oracle.advance(several[0])
        if len(oracle.findings.found) == before.findings and oracle.deeds <= done:
            left = (flags[1:], words) if several is flags else (flags, words[1:])
            if any(left):
                yield from _orders(oracle, *left, done)
            else:
                yield oracle.mark()
        oracle.back_to(before)


def _follow_likeliest(oracle: MessagingOracle, flags: list[Trigger], words: list[Trigger]) -> None:
    while flags or words:
        oracle.ask(_next(oracle, flags, words)[0].pop(0))  # type: ignore[attr-defined]


def _next(oracle: MessagingOracle, flags: Sequence[Trigger], words: Sequence[Trigger]) -> list[Sequence[Trigger]]:
    """Those of which the first may come next: the log tells of it as if it did; the earlier first. Where it tells of
    none, one has been missed."""
    told = [(event.time, several) for several in (flags, words) if several and (event := oracle.answer_to(several[0]))]
    if not told:
        return [flags or words]
    told.sort(key=lambda one: one[0])
    return [several for at, several in told if at - told[0][0] <= OFF_MAX]
