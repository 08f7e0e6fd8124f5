"""Sign-ins and sessions of the console. Browsers hold random secrets, the database only their hashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from shared.database import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleSession:
    practitioner_id: UUID
    roles: frozenset[str]
    name: str
    language: str
    form_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    state: str
    nonce: str
    code_verifier: str
    return_to: str


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


async def save_sign_in(connection: Connection, *, secret: str, sign_in: SignIn, lifetime: timedelta) -> None:
    """Remember a sign-in until the issuer sends the person back; those that never came back are forgotten."""
    await connection.execute(
        """
        with forgotten as (delete from console_sign_ins where started_at < clock_timestamp() - $6::interval)
        insert into console_sign_ins (sign_in_hash, state, nonce, code_verifier, return_to) values ($1, $2, $3, $4, $5)
        """,
        _hash(secret),
        sign_in.state,
        sign_in.nonce,
        sign_in.code_verifier,
        sign_in.return_to,
        lifetime,
    )


async def take_sign_in(connection: Connection, *, secret: str, lifetime: timedelta) -> SignIn | None:
    """The sign-in of this browser, once; None when there is none, or it took too long."""
    row = await connection.fetchrow(
        """
        delete from console_sign_ins where sign_in_hash = $1
        returning state, nonce, code_verifier, return_to, started_at >= clock_timestamp() - $2::interval as in_time
        """,
        _hash(secret),
        lifetime,
    )
    if row is None or not row["in_time"]:
        return None
    return SignIn(
        state=row["state"], nonce=row["nonce"], code_verifier=row["code_verifier"], return_to=row["return_to"]
    )


async def save_session(connection: Connection, *, secret: str, session: ConsoleSession, lifetime: timedelta) -> None:
    """Sign a person in; sessions past their longest life are forgotten."""
    await connection.execute(
        """
        with forgotten as (delete from console_sessions where signed_in_at < clock_timestamp() - $7::interval)
        insert into console_sessions (session_hash, practitioner_id, roles, name, language, form_token)
        values ($1, $2, $3, $4, $5, $6)
        """,
        _hash(secret),
        session.practitioner_id,
        sorted(session.roles),
        session.name,
        session.language,
        session.form_token,
        lifetime,
    )


async def load_session(
    connection: Connection, *, secret: str, idle: timedelta, lifetime: timedelta, active: bool
) -> ConsoleSession | None:
    """The session of this browser unless it has been idle, or has lived, for too long. `active`: a person did this."""
    row = await connection.fetchrow(
        """
        update console_sessions
        set active_at = case when $4 then clock_timestamp() else active_at end
        where session_hash = $1
          and active_at >= clock_timestamp() - $2::interval
          and signed_in_at >= clock_timestamp() - $3::interval
        returning practitioner_id, roles, name, language, form_token
        """,
        _hash(secret),
        idle,
        lifetime,
        active,
    )
    if row is None:
        return None
    return ConsoleSession(
        practitioner_id=row["practitioner_id"],
        roles=frozenset(row["roles"]),
        name=row["name"],
        language=row["language"],
        form_token=row["form_token"],
    )


async def delete_sessions(connection: Connection, *, secrets: Sequence[str]) -> None:
    """Sign out."""
    await connection.execute(
        "delete from console_sessions where session_hash = any($1::bytea[])", [_hash(s) for s in secrets]
    )
