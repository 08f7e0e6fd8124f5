"""Writes that do not depend on each other, in one statement: one way to the database and back for all of them."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from shared.database import Connection, Database

PLACEHOLDER = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """An insert, update or delete without a `with` of its own, and the arguments of its placeholders from $1 on."""

    statement: str
    arguments: Sequence[Any]


async def write(connection: "Connection | Database", writes: Iterable[Write | None]) -> None:
    """All of them, in no order that anybody may count on: each sees what was there before the first, and no row may be
    changed by two. None is nothing to write."""
    wanted = [one for one in writes if one is not None]
    if wanted:
        statement = _joined(tuple(one.statement for one in wanted))
        await connection.execute(statement, *chain.from_iterable(one.arguments for one in wanted))


@lru_cache(maxsize=256)
def _joined(statements: tuple[str, ...]) -> str:
    """One statement, whose placeholders are numbered through."""
    parts: list[str] = []
    before = 0
    for statement in statements:
        parts.append(PLACEHOLDER.sub(lambda found, before=before: f"${before + int(found[1])}", statement))  # type: ignore[misc]
        before += max((int(number) for number in PLACEHOLDER.findall(statement)), default=0)
    *first, last = parts
    named = ", ".join(f"write_{number} as ({part})" for number, part in enumerate(first, 1))
    return f"with {named} {last}" if named else last
