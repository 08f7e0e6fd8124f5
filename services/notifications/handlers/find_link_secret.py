"""The key of unsubscribe links: the operator's secret, else one of our own that is made once and kept."""

import secrets

from services.notifications.store.secrets import load_or_make_secret
from shared.database import Database


async def find_link_secret(database: Database, *, configured: str | None) -> str:
    """The same secret in every process and after every restart, so that a link works as long as its email is kept."""
    if configured:
        return configured
    async with database.acquire() as connection:
        candidate = secrets.token_urlsafe(32)
        return await load_or_make_secret(connection, name="unsubscribe-links", candidate=candidate)
