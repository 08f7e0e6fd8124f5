"""`careloop why --member ID`: what led to what, across the services."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import asyncpg
import typer
from rich.markup import escape
from rich.tree import Tree

from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, one_sentence, print_whole
from deploy.local.problems import LocalProblem
from deploy.local.stack import running_stack
from services.messaging.domain.timeline import TimelineEntry
from services.messaging.store.timeline import load_chain

COLOURS = {"apps": "cyan", "enrollment": "blue", "plans": "green", "messaging": "magenta", "notifications": "yellow"}


@one_sentence
def why(
    member: Annotated[UUID, typer.Option("--member", help="The member's id.")],
    data: Data = DATA_DEFAULT,
    chain: Annotated[str | None, typer.Option("--chain", help="One chain only, by its correlation id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The newest so many events.")] = 200,
    as_json: Json = False,
) -> None:
    """Draw the causal chains of a member: session.completed, what it led to, what that led to, and so on."""
    stack = running_stack(data.absolute())

    async def load() -> list[TimelineEntry]:
        connection = await asyncpg.connect(stack.services["messaging"].database_url, timeout=10)
        try:
            return await load_chain(connection, member_ids=[member], correlation_id=chain, limit=limit)
        finally:
            await connection.close()

    try:
        entries = asyncio.run(load())
    except DATABASE_FAILURES as error:
        raise LocalProblem(f"The database of messaging did not answer: {type(error).__name__}.") from error
    if not entries:
        what = "that member" if chain is None else f"chain {chain} of that member"
        raise LocalProblem(f"Nothing is known of {what}.")
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], default=str))
        return
    for tree in draw(entries):
        print_whole(tree)


def draw(entries: list[TimelineEntry]) -> list[Tree]:
    """One tree a chain, in order of time: an event hangs below the one that caused it."""
    known = {(entry.source, entry.event_id) for entry in entries}
    below: dict[tuple[str, str] | None, list[TimelineEntry]] = {}
    for entry in entries:
        cause = (entry.caused_by_source or "", entry.caused_by_id or "")
        below.setdefault(cause if cause in known else None, []).append(entry)

    def grow(tree: Tree, entry: TimelineEntry) -> Tree:
        for effect in below.get((entry.source, entry.event_id), ()):
            grow(tree.add(label(effect)), effect)
        return tree

    return [grow(Tree(label(entry)), entry) for entry in below.get(None, ())]


def label(entry: TimelineEntry) -> str:
    """When, who, what: one line."""
    colour = COLOURS.get(entry.service, "white")
    when = f"{entry.occurred_at:%Y-%m-%d %H:%M:%S}"
    return f"[dim]{when}[/] [{colour}]{entry.service:<13}[/] [bold]{entry.event_type}[/] {escape(entry.summary)}"
