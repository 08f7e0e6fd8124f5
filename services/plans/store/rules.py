"""The rule data under `library/`, read and checked once a process."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from services.plans.domain.rules import Library

LIBRARY = Path(__file__).parents[1] / "library"


@cache
def load_library() -> Library:
    """All rules in force; raises pydantic.ValidationError when a file is wrong: the service then does not start."""
    pain, progression, exercises, pathways, engagement = (
        _read(name) for name in ("pain", "progression", "exercises", "pathways", "engagement")
    )
    files = {
        "pain": pain,
        "progression": progression,
        "exercises": exercises,
        "pathways": pathways,
        "engagement": engagement,
    }
    return Library(
        owners={name: content.pop("owner") for name, content in files.items()},
        pain=pain["rules"],
        progression=progression["rules"],
        exercises=exercises["exercises"],
        pathways=pathways,
        engagement=engagement,
    )


def _read(name: str) -> dict[str, Any]:
    content = yaml.safe_load((LIBRARY / f"{name}.yaml").read_text("utf-8"))
    assert isinstance(content, dict)
    return content
