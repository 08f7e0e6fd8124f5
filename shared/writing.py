"""Writes that do not depend on each other, in one statement: one way to the database and back for all of them."""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain

from shared.database import Connection, Database
from shared.outcomes import Answer, Write

PLACEHOLDER = re.compile(r"\$(\d+)")
AFTER_OTHERS = "{after others}"
"""In the parts of the write that answers: a condition that holds once the others are written, and not before. For a
lock that everybody waits for: it is taken last."""


async def write(connection: "Connection | Database", writes: Iterable[Write | None]) -> Answer:
    """All of them, in no order that anybody may count on: each sees what was there before the first, and no row may be
    changed by two. None is nothing to write."""
    wanted = sorted((one for one in writes if one is not None), key=lambda one: one.answers)
    if not wanted:
        return ()
    if len(wanted) > 1 and wanted[-2].answers:  # a statement can end with one of these only
        await write(connection, wanted[:-1])
        wanted = wanted[-1:]
    statement = _joined(tuple((one.parts, one.statement) for one in wanted))
    return await connection.fetch(statement, *chain.from_iterable(one.arguments for one in wanted))


async def write_early(connection: Connection, writes: Iterable[Write | None]) -> list[Write]:
    """All but what answers, which is returned: a lock that everybody waits for is for the end of the transaction."""
    wanted = [one for one in writes if one is not None]
    await write(connection, [one for one in wanted if not one.answers])
    return [one for one in wanted if one.answers]


@lru_cache(maxsize=256)
def _joined(writes: tuple[tuple[str, str], ...]) -> str:
    """One statement, whose placeholders are numbered through."""
    named: list[str] = []
    statement, before, waits = "", 0, AFTER_OTHERS in writes[-1][0]
    for number, (parts, own) in enumerate(writes):
        named += [f"write_{number} as ({statement}{' returning 1' if waits else ''})"] if number else []
        named += [_renumbered(parts, before)] if parts else []
        statement = _renumbered(own, before)
        before += max((int(found) for found in PLACEHOLDER.findall(parts + own)), default=0)
    joined = f"with {', '.join(named)} {statement}" if named else statement
    # What is counted has been written: a part of a statement that nobody asks for may be carried out after the others.
    others = " union all ".join(f"select from write_{number}" for number in range(1, len(writes)))
    counted = f"(select count(*) from ({others}) as written) >= 0"  # noqa: S608 - only our own parts
    return joined.replace(AFTER_OTHERS, counted if others else "true")


def _renumbered(text: str, by: int) -> str:
    return PLACEHOLDER.sub(lambda found: f"${by + int(found[1])}", text)
