"""`careloop shadow`: a service's state built once more from the log, to see what another version would make of it."""

import asyncio
import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import asyncpg
import structlog
import typer
from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, console, one_sentence, print_figures
from deploy.dead_letters.readers import readers_of
from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, running_stack
from deploy.reconciliation.log import LogSilent
from deploy.shadow.comparing import Rebuild, compare
from deploy.shadow.database import drop_shadow, make_shadow, shadow_name
from deploy.shadow.reading import History
from deploy.shadow.running import Shadow, load_refused
from shared.clock import monotonic
from shared.database import open_database
from shared.dead_letters import record_operation
from shared.replaying import Reader

app = typer.Typer(help="Builds a service's state once more from the log, without any effect.", no_args_is_help=True)

Service = Annotated[str, typer.Option("--service", help="Whose, such as plans.")]
FIGURES = ("read", "new", "duplicate", "refused", "dead", "parked", "waiting")


@app.command("run")
@one_sentence
def run_shadow(
    service: Service,
    why: Annotated[str, typer.Option("--reason", help="Why; kept for the audit.")],
    group: Annotated[str | None, typer.Option("--group", help="One consumer group only.")] = None,
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Read the topics from their beginning into a database of its own, and compare with what the service did.

    Nothing is published, no timer runs, nothing is sent, and no consumer group is touched. The database stays to be
    looked at until `careloop shadow drop`.
    """
    if not why.strip():
        raise LocalProblem("--reason must say why.")
    stack = running_stack(data.absolute())
    readers = _readers(stack, service, group)
    started = monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with quiet(), Progress(*columns, console=console, disable=as_json, transient=True) as progress:
        bar = progress.add_task("records", total=None)
        rebuild = _answered(
            lambda: _run(
                stack, service, readers, why, lambda done, total: progress.update(bar, completed=done, total=total)
            )
        )
    seconds = monotonic() - started
    if as_json:
        told = {"service": service, "database": shadow_name(stack, service), "seconds": round(seconds, 1)}
        print(json.dumps({**told, **asdict(rebuild)}))
        return
    show(rebuild)
    console.print(
        f"It took {seconds:.1f} s. The database {shadow_name(stack, service)} stays until"
        f" `careloop shadow drop --service {service}`.",
        highlight=False,
        soft_wrap=True,
    )


@app.command("drop")
@one_sentence
def drop(service: Service, data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Remove the database of a shadow."""
    stack = running_stack(data.absolute())
    _must_have(stack, service)

    async def remove() -> bool:
        return await drop_shadow(stack, service)

    dropped = _answered(remove)
    if as_json:
        print(json.dumps({"dropped": dropped}))
    else:
        console.print(f"The shadow of {service} is gone." if dropped else f"There is no shadow of {service}.")


async def _run(
    stack: Stack, service: str, readers: Mapping[str, Reader], why: str, progress: Callable[[int, int], None]
) -> Rebuild:
    live = await asyncpg.connect(stack.services[service].database_url, timeout=10)
    try:
        url = await make_shadow(stack, service)
        details = {"database": shadow_name(stack, service), "groups": sorted(readers)}
        await record_operation(live, who=getpass.getuser(), action="shadow run", why=why, details=details)
        database = await open_database(url, connections=3, application="careloop shadow", is_kept=False)
        try:
            shadow = Shadow(
                service=service,
                database=database,
                readers=readers,
                history=History(stack.kafka_bootstrap, stack.namespace, security=stack.kafka_access.options()),
                refused=await load_refused(live),
                progress=progress,
            )
            await shadow.run()
            async with database.acquire() as connection:
                return await compare(connection, live, readers)
        finally:
            await database.close()
    finally:
        await live.close()


def show(rebuild: Rebuild) -> None:
    """A row a consumer group; what would have been published; where the live service has another outcome."""
    rows: list[list[str | int]] = [
        [
            one.consumer_group,
            *(one.books.get(name, 0) for name in FIGURES),
            sum(one.held.values()),
            one.same,
            sum(one.different.values()),
        ]
        for one in rebuild.groups
    ]
    print_figures(["consumer group", *FIGURES, "still held", "as live", "unlike live"], rows)
    published: list[list[str | int]] = [[name, count] for name, count in rebuild.published.items()]
    if published:
        print_figures(["would have published", "events"], published)
    unlike: list[list[str | int]] = [
        [one.consumer_group, what, n] for one in rebuild.groups for what, n in one.different.items()
    ]
    if unlike:
        print_figures(["consumer group", "outcome", "events"], unlike)
    else:
        console.print("Every event ended as it did in the live service.")


@contextmanager
def quiet() -> Iterator[None]:
    """What a service logs about events is told by the figures here."""

    def drop_line(*_: Any) -> Any:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop_line])
    try:
        yield
    finally:
        structlog.configure(**before)


def _readers(stack: Stack, service: str, group: str | None) -> Mapping[str, Reader]:
    _must_have(stack, service)
    readers = readers_of(service)
    if not readers:
        raise LocalProblem(f"{service} reads no topic, so there is nothing to build from the log.")
    if group is None:
        return readers
    if group not in readers:
        raise LocalProblem(f"{service} has no consumer group {group}: it has {', '.join(readers)}.")
    return {group: readers[group]}


def _must_have(stack: Stack, service: str) -> None:
    if service not in stack.services:
        raise LocalProblem(f"This stack has no service {service}: it has {', '.join(stack.services)}.")


def _answered(ask: Callable[[], Any]) -> Any:
    try:
        return asyncio.run(ask())
    except (KafkaError, LogSilent, *DATABASE_FAILURES) as error:
        raise LocalProblem(f"A server did not answer: {type(error).__name__}.") from error
