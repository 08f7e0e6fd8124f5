"""The one place where events of an older major version become today's.

A contract changes its major version only when a field is removed, renamed, narrowed or changes its meaning. Then its
type becomes `...v2`, and a function here makes a v2 of a v1, so that handlers, replay and rehearsal know one version
only. An old type is upcast step by step: v1 to v2, v2 to v3.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a whole event as JSON values and returns it with a newer `type`. It may raise on an event that was never valid:
the event is then undecodable. Identity (source, id), time and subject must stay."""

UPCASTERS: Final[Mapping[str, Upcaster]] = {}
"""By the old `type`. Empty: every contract is at its first version."""

STEPS_MAX: Final = 20
_IDENTITY: Final = ("source", "id", "time", "subject")


class UpcastFailed(Exception):
    """An upcaster raised, changed an event's identity or never arrived. Holds no part of the event."""


def upcast(event: dict[str, Any], *, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> dict[str, Any]:
    """This event as the newest version that upcasters lead to; itself where its type has none. UpcastFailed if not."""
    before = [event.get(name) for name in _IDENTITY]
    for _ in range(STEPS_MAX):
        upcaster = upcasters.get(str(event.get("type")))
        if upcaster is None:
            break
        try:
            event = upcaster(event)
        except Exception as error:
            raise UpcastFailed(type(error).__name__) from None
    else:
        raise UpcastFailed("too many steps")
    if [event.get(name) for name in _IDENTITY] != before:
        raise UpcastFailed("identity changed")
    return event
