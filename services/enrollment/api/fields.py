"""Fields that several requests share, each as narrow as its meaning. Text is one line: it goes into messages and
tables."""

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints

from services.enrollment.domain.roster import STATES

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class Body(BaseModel):
    """A request body. A field we do not know is refused: a misspelt one must not be lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("not an IANA time zone, such as America/New_York")
    return value


def _state(value: str) -> str:
    if value not in STATES:
        raise ValueError("not a US state, such as NY")
    return value


Line64 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=ONE_LINE)]
Line80 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=ONE_LINE)]
Line300 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=ONE_LINE)]
Zone = Annotated[str, AfterValidator(_zone)]
"""IANA time zone."""
State = Annotated[str, AfterValidator(_state)]
"""USPS code."""
Pain = Annotated[int, Strict(), Field(ge=0, le=10)]
"""0-10, an integer: 7.5 or "7" is a mistake of the app that asked."""
Count = Annotated[int, Strict()]
Email = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+$")
]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9]\d{6,14}$")]
"""E.164, such as +12125550100."""
