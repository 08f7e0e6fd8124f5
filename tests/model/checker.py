"""A small explicit-state checker: every state that a machine can reach, breadth first.

Two questions are asked. Safety: is there a reachable state that breaks an invariant? The trace to it is a shortest one.
No trap: does every reachable state still have a way to a good end? That assumes that whoever can act does so at some
time; it finds deadlocks and dead ends, not an unfair schedule that goes round in circles for ever.
"""

import time
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)
TRAP = "trap"
"""Name of the verdict that some state has no way to a good end."""


class Machine(Protocol[State]):
    """What is checked. States are hashable values that never change."""

    @property
    def start(self) -> State: ...

    def steps(self, state: State) -> Iterable[tuple[str, State]]:
        """Everything that can happen next: what is said of it, and the state after it."""
        ...

    def broken(self, state: State) -> str | None:
        """The invariant that does not hold in this state, as `name: detail`."""
        ...

    def is_good_end(self, state: State) -> bool: ...


class StatesExceeded(Exception):
    """More states than the limit: nothing is known about the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the exploration of a machine showed."""

    states: int
    depth: int
    seconds: float
    broken: str | None = None
    """The invariant that was broken, as `name: detail`; None where the protocol holds."""
    trace: Sequence[str] = ()

    @property
    def invariant(self) -> str | None:
        """The name of what was broken."""
        return None if self.broken is None else self.broken.partition(":")[0]

    def told(self) -> str:
        """The verdict with its trace, for people."""
        return "\n  ".join([self.broken or "holds", *self.trace])


class _Reached(Generic[State]):
    """States in the order in which they were found, with the way to each."""

    def __init__(self, start: State) -> None:
        self.number: dict[State, int] = {start: 0}
        self.states: list[State] = [start]
        self.before = array("l", [-1])
        self.labels: list[str] = [""]
        self.depth = array("l", [0])

    def add(self, state: State, *, before: int, label: str) -> int:
        number = len(self.states)
        self.number[state] = number
        self.states.append(state)
        self.before.append(before)
        self.labels.append(label)
        self.depth.append(self.depth[before] + 1)
        return number

    def trace(self, number: int) -> list[str]:
        labels: list[str] = []
        while self.before[number] >= 0:
            labels.append(self.labels[number])
            number = self.before[number]
        return labels[::-1]


def explore(machine: Machine[State], *, limit: int = 6_000_000) -> Found:
    """All reachable states of a machine. Raises StatesExceeded rather than answer for a part of them."""
    began = time.monotonic()
    reached = _Reached(machine.start)
    sources, targets = array("l"), array("l")
    at = 0
    while at < len(reached.states):
        state = reached.states[at]
        if broken := machine.broken(state):
            return _found(reached, began, broken=broken, at=at)
        for label, following in machine.steps(state):
            number = reached.number.get(following)
            if number is None:
                if len(reached.states) >= limit:
                    raise StatesExceeded(limit)
                number = reached.add(following, before=at, label=label)
            sources.append(at)
            targets.append(number)
        at += 1
    trapped = _first_without_good_end(machine, reached.states, sources, targets)
    if trapped is None:
        return _found(reached, began, broken=None, at=0)
    return _found(reached, began, broken=f"{TRAP}: no way to a good end is left", at=trapped)


def _found(reached: _Reached[State], began: float, *, broken: str | None, at: int) -> Found:
    return Found(
        states=len(reached.states),
        depth=max(reached.depth),
        seconds=time.monotonic() - began,
        broken=broken,
        trace=reached.trace(at),
    )


def _first_without_good_end(
    machine: Machine[State], states: Sequence[State], sources: "array[int]", targets: "array[int]"
) -> int | None:
    """Walks backwards from the good ends; the first state that this does not reach."""
    count = len(states)
    # The steps into each state as a linked list in two arrays: a list of lists would not fit into memory.
    newest, older = array("l", [-1]) * count, array("l", [-1]) * len(targets)
    for step, target in enumerate(targets):
        older[step] = newest[target]
        newest[target] = step
    hopeful = bytearray(machine.is_good_end(state) for state in states)
    open_ends = [number for number in range(count) if hopeful[number]]
    while open_ends:
        step = newest[open_ends.pop()]
        while step >= 0:
            source = sources[step]
            if not hopeful[source]:
                hopeful[source] = True
                open_ends.append(source)
            step = older[step]
    trapped = hopeful.find(0)
    return None if trapped < 0 else trapped
