"""What is claimed of a machine: the protocol holds there, or breaks without one of its rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.model.checker import Found, Machine, explore

Build = Callable[[], Machine[Any]]


@dataclass(frozen=True, kw_only=True)
class Holds:
    """The protocol holds here, and the machine is large enough for that to mean something."""

    name: str
    build: Build
    states: int
    """At least so many, or the machine explores less than it should."""

    def check(self) -> Found:
        return explore(self.build())


@dataclass(frozen=True, kw_only=True)
class Breaks:
    """Without this rule, an invariant breaks."""

    rule: str
    """As `machine.flag`."""
    invariant: str
    build: Build

    def check(self) -> Found:
        return explore(self.build())
