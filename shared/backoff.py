"""What has failed is left alone for a while, longer each time."""

from typing import Generic, TypeVar

from shared.clock import monotonic

Key = TypeVar("Key")


class Backoff(Generic[Key]):
    """What has failed and when it is tried again, each at its own pace."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._failed: dict[Key, tuple[float, float]] = {}

    def fail(self, key: Key) -> float:
        """Note a failure; seconds until the next try."""
        delay = min(self._most_s, 2 * self._failed[key][1]) if key in self._failed else self._first_s
        self._failed[key] = (monotonic() + delay, delay)
        return delay

    def succeed(self, key: Key) -> None:
        self._failed.pop(key, None)

    def __contains__(self, key: object) -> bool:
        """Whether its last try failed."""
        return key in self._failed

    def __len__(self) -> int:
        return len(self._failed)

    def waiting(self) -> set[Key]:
        """What is not tried now."""
        now = monotonic()
        return {key for key, (until, _) in self._failed.items() if until > now}
