"""All machines, with their rules and everything that is claimed of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tests.model import (
    consuming_rules,
    consuming_scenarios,
    end_to_end,
    end_to_end_scenarios,
    publishing,
    publishing_scenarios,
    reading,
    reading_scenarios,
    timers,
    timers_scenarios,
)
from tests.model.cases import Breaks, Holds

RULES: dict[str, type[Any]] = {
    "consuming": consuming_rules.Rules,
    "reading": reading.Rules,
    "publishing": publishing.Rules,
    "end_to_end": end_to_end.Rules,
    "timers": timers.Rules,
}
"""By the name of the machine."""


@dataclass(frozen=True)
class Claims:
    holds: Sequence[Holds]
    breaks: Sequence[Breaks]
    deep: Sequence[Holds]


_SCENARIOS: Sequence[Any] = (
    consuming_scenarios,
    reading_scenarios,
    publishing_scenarios,
    end_to_end_scenarios,
    timers_scenarios,
)
CLAIMS = Claims(
    holds=[case for module in _SCENARIOS for case in module.HOLDS],
    breaks=[case for module in _SCENARIOS for case in module.BREAKS],
    deep=[case for module in _SCENARIOS for case in module.DEEP],
)


def all_rules() -> list[str]:
    """Every rule of every machine, as `machine.flag`."""
    return [f"{machine}.{field.name}" for machine, rules in RULES.items() for field in fields(rules)]
