"""`careloop dead-letters`: what could not be applied, and the operator's decision about it."""

import asyncio
import base64
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import asyncpg
import typer

from deploy.cli.dead_letters_shown import Bar, show_done, show_list, show_one, show_queues, show_summary
from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, console, one_sentence
from deploy.dead_letters import listing
from deploy.dead_letters.listing import Filters, count_ids, describe
from deploy.dead_letters.readers import readers_of
from deploy.dead_letters.running import Done, Request, Runner
from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, running_stack
from shared.clock import open_clock, wall_now
from shared.database import Connection, Database, open_database
from shared.dead_letters import place_of, record_operation
from shared.events.catalogue import TOPIC_OF
from shared.held_events import load_held

app = typer.Typer(
    help="Events that could not be applied, what is parked behind them, what waits.", no_args_is_help=True
)

State = Literal["dead", "parked", "waiting"]
Service = Annotated[str | None, typer.Option("--service", help="One service only, such as plans.")]
Group = Annotated[str | None, typer.Option("--group", help="Consumer group, such as plans.activity.")]
Topic = Annotated[str | None, typer.Option("--topic", help="Topic, such as careloop.activity.")]
HeldFor = Annotated[str | None, typer.Option("--held-for", help="Why it is held, such as bug or too-old.")]
Member = Annotated[UUID | None, typer.Option("--member", help="One member's.")]
Since = Annotated[str | None, typer.Option("--since", help="Held since: 90m, 12h or 3d ago, or a time with its zone.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept for the audit.")]
Rate = Annotated[str | None, typer.Option("--rate", help="At most so many events a second, such as 50/s.")]
T = TypeVar("T")
_CALLED = "careloop dead-letters"
INTERRUPTED = "Interrupted. A queue that was begun is in the middle: its service goes on with it in a minute."


@app.command("list")
@one_sentence
def list_dead_letters(
    service: Service = None,
    group: Group = None,
    topic: Topic = None,
    held_for: Annotated[str | None, typer.Option("--reason", "--held-for", help="Such as bug or too-old.")] = None,
    state: Annotated[State | None, typer.Option("--state")] = None,
    member: Member = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Rows of a page, per service.")] = 50,
    after: Annotated[int, typer.Option("--after", min=0, help="The next page: ids above this one.")] = 0,
    summary: Annotated[bool, typer.Option("--summary", help="Counts; with --state parked, the members.")] = False,
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show held events, oldest first: never what is in them."""
    stack = running_stack(data.absolute())
    filters = Filters(group=group, topic=topic, reason=held_for, state=state, member=member, since=_read_since(since))
    is_parked = summary and state == "parked"

    async def load(connection: Connection) -> list[dict[str, Any]]:
        if is_parked:
            return await listing.list_queues(connection, filters, limit=limit)
        if summary:
            return await listing.summarise(connection, filters)
        return await listing.list_held(connection, filters, after=after, limit=limit)

    rows = [{"service": name, **row} for name, found in _of_each(stack, service, load).items() for row in found]
    if not rows:
        _must_exist(_names(stack, service), filters)
    if as_json:
        print(json.dumps(rows, default=str))
    elif is_parked:
        show_queues(console, rows)
    elif summary:
        show_summary(console, rows)
    else:
        show_list(console, rows, limit=limit)


@app.command("show")
@one_sentence
def show_dead_letter(
    held_id: Annotated[int, typer.Argument(metavar="ID", min=1)],
    service: Annotated[str, typer.Option("--service", help="Whose it is, such as plans.")],
    payload: Annotated[bool, typer.Option("--payload", help="Show what is in it, too; this is written down.")] = False,
    why: Annotated[str, typer.Option("--reason", help="Why it must be seen; needed with --payload.")] = "",
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show everything about a held event; its content only with --payload, for a reason that is kept."""
    stack = running_stack(data.absolute())
    if payload:
        _must_say_why(why)

    async def load(connection: Connection) -> dict[str, Any]:
        async with connection.transaction():
            found, row = await describe(connection, held_id), await load_held(connection, held_id)
            if found is None or row is None:
                raise LocalProblem(f"{service} holds no event {held_id}.")
            if payload:
                found |= {"payload": _readable(row.value), "headers": [[n, _readable(v)] for n, v in row.headers]}
                await record_operation(
                    connection,
                    who=getpass.getuser(),
                    action="dead-letters show payload",
                    why=why,
                    details=place_of(row),
                )
            return {"service": service, **found}

    found = _of_each(stack, service, load)[service]
    if as_json:
        print(json.dumps(found, default=str))
    else:
        show_one(console, found)


@app.command("replay")
@one_sentence
def replay_dead_letters(
    why: Why,
    held_id: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, help="One; needs --service.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    service: Service = None,
    group: Group = None,
    topic: Topic = None,
    held_for: HeldFor = None,
    state: Annotated[State | None, typer.Option("--state")] = None,
    member: Member = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try it, change nothing, say what would become.")] = False,
    rate: Rate = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many dead letters.")] = None,
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Try dead letters again, and what is parked behind them, in order. Ends with 1 if any still fails."""
    filters = Filters(group=group, topic=topic, reason=held_for, state=state, member=member, since=_read_since(since))
    _must_say_why(why)
    _must_say_which(held_id, service, filters, every=every)
    request = Request(
        action="replay", who=getpass.getuser(), why=why, filters=filters, held_id=held_id, limit=limit,
        rate=_read_rate(rate), dry_run=dry_run,
    )  # fmt: skip
    _run(running_stack(data.absolute()), service, request, as_json=as_json)


@app.command("discard")
@one_sentence
def discard_dead_letters(
    why: Why,
    held_id: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, help="One; needs --service.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Discard all that the filters let through.")] = False,
    service: Service = None,
    group: Group = None,
    topic: Topic = None,
    held_for: HeldFor = None,
    member: Member = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many dead letters.")] = None,
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Delete dead letters for good; what is parked behind one is then taken in order."""
    filters = Filters(group=group, topic=topic, reason=held_for, member=member, since=_read_since(since))
    _must_say_why(why)
    _must_say_which(held_id, service, filters, every=False)
    if held_id is None and not yes:
        raise LocalProblem("Discarding more than one by its ID needs --yes: it cannot be taken back.")
    request = Request(action="discard", who=getpass.getuser(), why=why, filters=filters, held_id=held_id, limit=limit)
    _run(running_stack(data.absolute()), service, request, as_json=as_json)


def _run(stack: Stack, service: str | None, request: Request, *, as_json: bool) -> None:
    names = _names(stack, service)
    clock = open_clock(stack.clock_file)
    done: list[Done] = []
    with Bar(console, hidden=as_json) as bar:

        async def run() -> None:
            for name in names:
                database = await open_database(stack.services[name].database_url, connections=2, application=_CALLED)
                try:
                    bar.expect(await _count(database, request))
                    runner = Runner(
                        service=name,
                        database=database,
                        readers=readers_of(name),
                        clock=clock,
                        request=request,
                        progress=bar.events,
                    )
                    async for one in runner.run():
                        done.append(one)
                        bar.step()
                        if request.limit is not None and len(done) >= request.limit:
                            return
                finally:
                    await database.close()

        try:
            _answered(run)
            is_interrupted = False
        except KeyboardInterrupt:
            is_interrupted = True
    if not done and not is_interrupted:
        _must_exist(names, request.filters)
    if done or as_json or not is_interrupted:
        show_done(console, done, action=request.action, dry_run=request.dry_run, as_json=as_json)
    if is_interrupted:
        print(f"careloop: {INTERRUPTED}", file=sys.stderr)
        raise typer.Exit(130)
    if any(one.failed for one in done):
        raise typer.Exit(1)


async def _count(database: Database, request: Request) -> int:
    if request.held_id is not None:
        return 1
    async with database.acquire(timeout=30) as connection:
        return await count_ids(connection, request.chosen)


def _of_each(stack: Stack, service: str | None, load: Callable[[Connection], Awaitable[T]]) -> dict[str, T]:
    """What each service's database answers."""
    names = _names(stack, service)

    async def ask() -> dict[str, T]:
        found: dict[str, T] = {}
        for name in names:
            connection = await asyncpg.connect(stack.services[name].database_url, timeout=10)
            try:
                found[name] = await load(connection)
            finally:
                await connection.close()
        return found

    return _answered(ask)


def _answered(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return asyncio.run(ask())
    except DATABASE_FAILURES as error:
        raise LocalProblem(f"A database did not answer: {type(error).__name__}.") from error


def _names(stack: Stack, service: str | None) -> list[str]:
    if service is None:
        return list(stack.services)
    if service not in stack.services:
        raise LocalProblem(f"This stack has no service {service}: it has {', '.join(stack.services)}.")
    return [service]


def _must_exist(names: Sequence[str], filters: Filters) -> None:
    """Where nothing was found, a group or topic that nobody knows is a slip of the pen, and no reason to be at ease."""
    groups = [group for name in names for group in readers_of(name)]
    if filters.group is not None and filters.group not in groups:
        raise LocalProblem(
            f"Nothing is held, and no consumer group is called {filters.group}: there are {', '.join(groups)}."
        )
    if filters.topic is not None and filters.topic not in TOPIC_OF:
        raise LocalProblem(f"Nothing is held, and no topic is called {filters.topic}.")


def _must_say_why(why: str) -> None:
    if not why.strip():
        raise LocalProblem("--reason must say why.")


def _must_say_which(held_id: int | None, service: str | None, filters: Filters, *, every: bool) -> None:
    if held_id is not None:
        if service is None:
            raise LocalProblem("An ID counts within one service: say which with --service.")
        if filters.any_given or every:
            raise LocalProblem("Say either an ID or which ones, not both.")
    elif not (filters.any_given or every or service is not None):
        raise LocalProblem("Say which: an ID with --service, a filter, or --all.")


def _read_since(text: str | None) -> Any:
    try:
        return None if text is None else listing.read_since(text, wall_now())
    except (ValueError, OverflowError):
        raise LocalProblem("--since is 90m, 12h or 3d ago, or a time with its zone.") from None


def _read_rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0
    if not 0 < rate <= 1_000_000:
        raise LocalProblem("--rate is a number of events a second, such as 50/s.")
    return rate


def _readable(value: bytes | None) -> Any:
    """JSON as it is, other text as text, other bytes in base64."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
    try:
        return json.loads(text)
    except ValueError:
        return text
