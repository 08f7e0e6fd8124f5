"""Who is to blame where an event that is tried alone takes longer than a transaction may: the event, or the database.

Nothing about the one event tells. But where others of its group are taken meanwhile, by the same handler in the same
tables, the database is well; where none is, nobody is blamed, and the event is tried again for ever.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.database import Database, TookTooLong, is_transient
from shared.positions import load_progress
from shared.subscriptions import Subscription

BLAMED_MAX = 3
"""An event that took too long so often while others got on becomes a dead letter."""
ASK_S = 2.0
"""How long whoever asks whether others get on waits for a connection."""


@dataclass(slots=True)
class Suspicion:
    """Of one event that is tried alone, again and again."""

    database: Database
    subscription: Subscription
    blamed: int = 0
    held_id: int | None = None
    """Where it is held already: which one it is."""

    @asynccontextmanager
    async def trying(self) -> AsyncIterator[None]:
        """Around a try of it alone. Raises TookTooLong where that does."""
        stood = await self._progress()
        try:
            yield
        except TookTooLong:
            stands = await self._progress()
            self.blamed += stood is not None and stands is not None and stood < stands
            raise

    @property
    def is_guilty(self) -> bool:
        return self.blamed >= BLAMED_MAX

    def turn_to(self, held_id: int) -> None:
        """It is this held event that is to be tried now: for what another one did it is not blamed."""
        if held_id != self.held_id:
            self.held_id, self.blamed = held_id, 0

    async def _progress(self) -> int | None:
        try:
            async with self.database.acquire(timeout=ASK_S) as connection:
                return await load_progress(connection, self.subscription.group, self.subscription.topic)
        except Exception as error:
            if not is_transient(error):
                raise
            return None
