"""Secrets that the service makes for itself, the same for all its replicas."""

from shared.database import Connection

MAKE = "insert into signing_secrets (name, secret) values ($1, $2) on conflict (name) do nothing"
LOAD = "select secret from signing_secrets where name = $1"


async def load_or_make_secret(connection: Connection, *, name: str, candidate: str) -> str:
    """The kept secret of this name; `candidate`, from now on, if there was none."""
    await connection.execute(MAKE, name, candidate)
    secret: str = await connection.fetchval(LOAD, name)
    return secret
