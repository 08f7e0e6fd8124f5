"""The rules of this service, from its library folder."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from services.notifications.domain.policy import Policy, Rule, read_policy, read_rule

LIBRARY = Path(__file__).resolve().parent.parent / "library"


@cache
def load_policy() -> Policy:
    """The policy in force, read once a process. Raises KeyError, ValueError or TypeError for a file that is not one."""
    return read_policy(
        rules=_read("notifications.yaml"),
        zones=_read("time_zones.yaml"),
    )


def list_rules() -> list[Rule]:
    """Every rule in force, by file and then in its order."""
    contents = [_read(file.name) for file in sorted(LIBRARY.glob("*.yaml"))]
    return [read_rule(fields, owner=content["owner"]) for content in contents for fields in _rules_in(content)]


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((LIBRARY / name).read_text(encoding="utf-8"))
    return content


def _rules_in(value: Any) -> Iterator[dict[str, Any]]:
    """A rule is whatever has an id; rules may stand in a list or under their reasons."""
    if isinstance(value, dict) and "id" in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _rules_in(inner)
