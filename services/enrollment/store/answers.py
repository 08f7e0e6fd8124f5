"""Answers to commands that may be sent again: the same caller and key get the same answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.database import Connection

KEPT: Final = timedelta(days=7)
"""How long a repeated command finds its answer; a phone gives up long before."""
LOAD = "select digest, status, body from answers where caller = $1 and idempotency_key = $2"
SAVE = """
insert into answers (caller, idempotency_key, digest, status, body, answered_at) values ($1, $2, $3, $4, $5, $6)
on conflict (caller, idempotency_key) do nothing returning 1
"""
FORGET = """
delete from answers where (caller, idempotency_key) in (
    select caller, idempotency_key from answers where answered_at < $1 order by answered_at limit 5000)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    digest: bytes
    """Of the body that was answered."""
    status: int
    body: bytes
    """JSON, as it was sent."""


async def load_answer(connection: Connection, *, caller: str, key: str) -> Answer | None:
    row = await connection.fetchrow(LOAD, caller, key)
    return None if row is None else Answer(digest=row["digest"], status=row["status"], body=row["body"])


async def save_answer(connection: Connection, answer: Answer, *, caller: str, key: str, now: datetime) -> bool:
    """False when the same command was answered meanwhile: the caller must give that answer instead of its own."""
    saved = await connection.fetchval(SAVE, caller, key, answer.digest, answer.status, answer.body, now)
    return saved is not None


async def forget_answers(connection: Connection, *, now: datetime) -> None:
    await connection.execute(FORGET, now - KEPT)
