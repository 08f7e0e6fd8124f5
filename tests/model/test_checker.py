"""Given a machine whose states are known by hand, when it is explored, then the verdict is the right one."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.model.checker import StatesExceeded, explore


@dataclass
class Counter:
    """Counts up by one or two, to at most `most`."""

    most: int = 10
    forbidden: frozenset[int] = frozenset()
    dead_ends: frozenset[int] = frozenset()
    start: int = field(default=0)

    def steps(self, state: int) -> Iterator[tuple[str, int]]:
        if state not in self.dead_ends:
            for more in (1, 2):
                if state + more <= self.most:
                    yield f"+{more}", state + more

    def broken(self, state: int) -> str | None:
        return f"forbidden: {state}" if state in self.forbidden else None

    def is_good_end(self, state: int) -> bool:
        return state == self.most


def test_all_states_are_found() -> None:
    found = explore(Counter())

    assert (found.broken, found.states, found.depth) == (None, 11, 10 // 2)


def test_the_trace_to_what_breaks_is_a_shortest_one() -> None:
    found = explore(Counter(forbidden=frozenset({5})))

    assert found.invariant == "forbidden"
    assert len(found.trace) == 3
    assert sum(int(step) for step in found.trace) == 5


def test_a_state_without_a_way_to_the_end_is_a_trap() -> None:
    found = explore(Counter(dead_ends=frozenset({7})))

    assert found.invariant == "trap"
    assert sum(int(step) for step in found.trace) == 7


def test_a_dead_end_that_is_the_end_is_none() -> None:
    assert explore(Counter(dead_ends=frozenset({10}))).broken is None


def test_a_machine_that_is_too_large_has_no_verdict() -> None:
    with pytest.raises(StatesExceeded):
        explore(Counter(most=100), limit=50)
