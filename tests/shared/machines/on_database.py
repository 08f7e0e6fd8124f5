"""State machines against a real database: one database a test, emptied for each example, one event loop for all."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from shared.database import Database, open_database

EMPTY = """
truncate effects, known_members, switches, delivery.positions, delivery.member_locks, delivery.inbox,
    delivery.held_events, delivery.attempts, delivery.outbox, delivery.timers, delivery.operations, delivery.relay_lease
    restart identity
"""
BOUNDS = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
"""As much as keeps a machine under twenty seconds."""
Answer = TypeVar("Answer")


@dataclass
class Stage:
    """What a machine runs on."""

    runner: asyncio.Runner
    pool: Database

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    def empty(self) -> None:
        self.run(self.pool.execute(EMPTY))


@contextmanager
def open_stage(url: str) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        pool = runner.run(open_database(url, connections=4, application="test"))
        try:
            yield Stage(runner, pool)
        finally:
            runner.run(pool.close())


def explore(machine: type[RuleBasedStateMachine], url: str, *, bounds: settings = BOUNDS) -> None:
    """Run the machine's rules in every order that Hypothesis thinks of, each example on empty tables."""
    with open_stage(url) as stage:

        class OnStage(machine):  # type: ignore[misc, valid-type]  # Hypothesis makes one an example, without arguments
            def __init__(self) -> None:
                stage.empty()
                super().__init__(stage)

        run_state_machine_as_test(OnStage, settings=bounds)
