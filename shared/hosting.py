"""What the parts of a running service need of the whole, so that they do not know how it is composed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.clock import Clock
from shared.database import Connection, Database
from shared.intake import Intake
from shared.lag import Place, Positions, Unread
from shared.replaying import Reader
from shared.subscriptions import TimerHandler


@dataclass(slots=True)
class Health:
    """How far a service has come in its life."""

    started: bool = False
    stopping: bool = False
    why: str = "starting"
    """What start-up waits for."""


@dataclass(frozen=True)
class Pending:
    """Work of a service's own that is not done yet, for `/health/progress`."""

    name: str
    count: Callable[[Connection, datetime], Awaitable[int]]


class Host(Protocol):
    """The service around a part."""

    name: str
    clock: Clock
    health: Health
    readers: Mapping[str, Reader]
    timers: Mapping[str, TimerHandler]
    intakes: Sequence[Intake]
    pending: Sequence[Pending]

    @property
    def database(self) -> Database: ...

    async def find_unread(self, positions: Positions, *, at_once: bool = True) -> dict[Place, Unread]: ...

    def committed(self, published: int) -> None: ...
