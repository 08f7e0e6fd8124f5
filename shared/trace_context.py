"""W3C trace context: the trace that a caller is in, so that what follows from its request is found with it."""

from collections.abc import Mapping
from typing import Final

TRACEPARENT: Final = "traceparent"


def traceparent_of(headers: Mapping[str, str]) -> str | None:
    """The caller's traceparent; None where there is none, or one that the specification says to ignore."""
    given = headers.get(TRACEPARENT)
    return given if given is not None and is_traceparent(given) else None


def is_traceparent(text: str) -> bool:
    """Whether this is a W3C traceparent, version 00. Ids of zeros only are invalid."""
    parts = text.split("-")
    return (
        [len(part) for part in parts] == [2, 32, 16, 2]
        and all(character in "0123456789abcdef" for part in parts for character in part)
        and parts[0] == "00"
        and set(parts[1]) != {"0"}
        and set(parts[2]) != {"0"}
    )


def trace_id_of(traceparent: str) -> str:
    """The id that every span of the trace shares."""
    return traceparent.split("-")[1]
