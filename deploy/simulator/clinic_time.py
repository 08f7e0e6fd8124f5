"""Driving clinic time: run fast to a limit, hold there until every service has settled, go on.

All processes of a stack read the same anchor (`shared/clock.py`), so holding its limit holds them all.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from deploy.local.stack import Stack
from shared.clock import Anchor, AnchoredClock, monotonic, wall_now, write_anchor

POLL_S = 0.04
QUIET_ROUNDS = 2
"""An event may go from one service to another between two questions, so all are asked once more."""


class NotSettled(Exception):
    """A service did not come to rest in time; the message says which, and what it still had to do."""


@dataclass(kw_only=True)
class ClinicTime:
    """Clinic time of a stack that is being seeded."""

    clock_file: Path

    def __post_init__(self) -> None:
        self._clock = AnchoredClock(self.clock_file)

    def now(self) -> datetime:
        return self._clock.now()

    def run_to(self, limit_at: datetime, *, within_s: float) -> None:
        """Lets clinic time run from now to the limit in so many machine seconds, and hold there."""
        now, wall = self.now(), wall_now()
        speed = max(1.0, (limit_at - now) / timedelta(seconds=within_s))
        write_anchor(self.clock_file, Anchor(clinic_at=now, wall_at=wall, speed=speed, limit_at=limit_at))

    def release(self) -> None:
        """From here on clinic time is the wall clock, which it must have met."""
        self.clock_file.unlink(missing_ok=True)


async def ask_progress(
    client: httpx.AsyncClient, stack: Stack, *, names: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """What these services (all, unless named) say of their progress; one that does not answer is not settled."""

    async def ask(name: str) -> tuple[str, dict[str, Any]]:
        try:
            answer = await client.get(f"{stack.services[name].url}/health/progress")
            return name, answer.json() if answer.is_success else {"settled": False, "why": answer.status_code}
        except (httpx.TransportError, ValueError) as error:
            return name, {"settled": False, "why": type(error).__name__}

    return dict(await asyncio.gather(*(ask(name) for name in (stack.services if names is None else names))))


def has_settled(answer: dict[str, Any], *, at: datetime) -> bool:
    """Whether nothing is under way in a service, at this clinic time or later."""
    return answer.get("settled") is True and datetime.fromisoformat(answer["now"]) >= at


def unsettled(answers: dict[str, dict[str, Any]]) -> str:
    """One line of who still works on what."""
    kept = ("why", "lag", "outbox", "due_timers", "pending", "partitions_opening")
    parts: Sequence[str] = [
        f"{name}: " + ", ".join(f"{key} {answer[key]}" for key in kept if answer.get(key))
        for name, answer in answers.items()
        if answer.get("settled") is not True
    ]
    return "; ".join(parts) or "clinic time has not come to the services"


async def wait_settled(client: httpx.AsyncClient, stack: Stack, *, at: datetime, within_s: float) -> None:
    """Until every service has settled at this clinic time. Raises NotSettled.

    Each is asked until it has; then all once more, because one that had settled may have got work from another since.
    """
    deadline = monotonic() + within_s
    left: Collection[str] = list(stack.services)
    quiet_rounds = 0
    while quiet_rounds < QUIET_ROUNDS:
        answers = await ask_progress(client, stack, names=left)
        busy = [name for name, answer in answers.items() if not has_settled(answer, at=at)]
        quiet_rounds, left = (0, busy) if busy else (quiet_rounds + 1, list(stack.services))
        if busy and monotonic() > deadline:
            raise NotSettled(unsettled(answers))
        if busy:
            await asyncio.sleep(POLL_S)
