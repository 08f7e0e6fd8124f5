"""Faults that bring to light what a mutant undoes."""

from typing import Any

from tests.chaos.faults import Fault


def kill_at(at_s: float, service: Any, point: Any, nth: int = 1) -> Fault:
    return Fault(at_s, "kill-at", service, point, nth)


KILLED_COMMITTING = (
    kill_at(2, "plans", "before-commit", 2),
    kill_at(3, "messaging", "before-commit", 3),
    kill_at(8, "plans", "before-commit", 4),
)
KAFKA_AWAY = (
    Fault(3, "server", server="kafka", hold_s=1.5),
    kill_at(9, "plans", "before-publish", 2),
    kill_at(9, "messaging", "before-publish", 1),
)
NO_RELAY = (Fault(1, "no-relay", "plans", hold_s=22.0),)
"""Once its lease is over, rows of several chunks of a member lie in the outbox together."""
ZOMBIE = (Fault(1.5, "stop-at", "plans", "before-take", 2, hold_s=8.0),)
COMMITTED_LATE = (Fault(1.5, "stop-at", "plans", "before-commit", 3, hold_s=7.5),)
"""Another process publishes larger numbers before the stopped one commits its own."""
