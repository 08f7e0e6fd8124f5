"""The protocol of docs/protocol.md, explored exhaustively within bounds: as it is built it holds, and each of its rules
is needed, because without it an invariant breaks."""

import pytest

from tests.model.cases import Breaks, Holds
from tests.model.catalogue import CLAIMS, all_rules
from tests.model.checker import Found

STATES_MIN = 150_000
"""Of all that holds together; a machine that explores nothing breaks nothing."""


def say(name: str, found: Found) -> None:
    print(f"\n{name}: {found.states} states, depth {found.depth}, {found.seconds:.2f} s", end="")


@pytest.mark.parametrize("case", CLAIMS.holds, ids=lambda case: case.name)
def test_the_protocol_holds(case: Holds) -> None:
    found = case.check()
    say(case.name, found)

    assert found.broken is None, found.told()
    assert found.states >= case.states, "it explores less than it should"


def test_what_is_explored_is_large_enough_to_mean_something() -> None:
    assert sum(case.states for case in CLAIMS.holds) >= STATES_MIN


@pytest.mark.parametrize("case", CLAIMS.breaks, ids=lambda case: f"{case.rule}-{case.invariant}".replace(" ", "-"))
def test_each_rule_is_needed(case: Breaks) -> None:
    found = case.check()
    say(f"without {case.rule}", found)

    assert found.invariant == case.invariant, found.told()


def test_every_rule_has_a_variant_without_it() -> None:
    assert sorted({case.rule for case in CLAIMS.breaks}) == sorted(all_rules())
