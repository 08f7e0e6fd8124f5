"""`careloop positions`: where each consumer group stands, and the operator's decision where the log and it disagree."""

import asyncio
import getpass
import json
from typing import Annotated, Any

import asyncpg
import typer
from aiokafka.errors import KafkaError

from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, console, one_sentence, print_figures
from deploy.local.problems import LocalProblem
from deploy.local.stack import Stack, running_stack
from deploy.reconciliation.log import LogReader
from shared.events.catalogue import TOPIC_OF

app = typer.Typer(help="Where each consumer group stands in the log.", no_args_is_help=True)

LIST = """
select consumer_group, topic, partition, first_offset, next_offset, stalled_starts, records_read, records_new,
    records_duplicate, records_refused, records_dead, records_parked, records_waiting
from delivery.positions order by consumer_group, topic, partition
"""
LOCK = """
select next_offset from delivery.positions where consumer_group = $1 and topic = $2 and partition = $3 for update
"""
SET = """
update delivery.positions set next_offset = $4 where consumer_group = $1 and topic = $2 and partition = $3
returning records_read
"""
RECORD = (
    "insert into delivery.operations (done_by, action, reason, details) values ($1, 'positions set', $2, $3::jsonb)"
)


@app.command("list")
@one_sentence
def list_positions(data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Show every consumer group's position in every partition, with what became of what it read."""
    stack = running_stack(data.absolute())

    async def load() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for service in stack.services.values():
            connection = await asyncpg.connect(service.database_url, timeout=10)
            try:
                found += [dict(row) for row in await connection.fetch(LIST)]
            finally:
                await connection.close()
        return found

    try:
        rows = asyncio.run(load())
    except DATABASE_FAILURES as error:
        raise LocalProblem(f"A database did not answer: {type(error).__name__}.") from error
    if as_json:
        print(json.dumps(rows))
        return
    shown = (
        "consumer_group", "topic", "partition", "next_offset", "records_read", "records_dead", "records_parked",
        "records_waiting",
    )  # fmt: skip
    headings = [name.removeprefix("records_").replace("_", " ") for name in shown]
    print_figures(headings, [[row[name] for name in shown] for row in rows])


@app.command("set")
@one_sentence
def set_position(
    group: Annotated[str, typer.Option("--group", help="Consumer group, such as plans.activity.")],
    topic: Annotated[str, typer.Option("--topic", help="Topic, such as careloop.activity.")],
    partition: Annotated[int, typer.Option("--partition", min=0)],
    offset: Annotated[int, typer.Option("--offset", min=0, help="The next record to read.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for the audit.")],
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
) -> None:
    """Move a position by hand. Going back is harmless, the inbox drops what was taken; going forward skips records."""
    if not reason.strip():
        raise LocalProblem("--reason must say why.")
    stack = running_stack(data.absolute())
    service = stack.services.get(group.split(".")[0])
    if service is None:
        raise LocalProblem(f"No service of this stack has the consumer group {group}.")

    async def move() -> int:
        await require_in_log(stack, topic=topic, partition=partition, offset=offset)
        connection = await asyncpg.connect(service.database_url, timeout=10)
        try:
            async with connection.transaction():
                before: int | None = await connection.fetchval(LOCK, group, topic, partition)
                if before is None:
                    raise LocalProblem(f"{group} has no position in {topic} {partition}.")
                read = await connection.fetchval(SET, group, topic, partition, offset)
                details = {
                    "group": group, "topic": topic, "partition": partition, "from": before, "to": offset, "read": read
                }  # fmt: skip
                await connection.execute(RECORD, getpass.getuser(), reason, json.dumps(details))
                return before
        finally:
            await connection.close()

    try:
        before = asyncio.run(move())
    except DATABASE_FAILURES as error:
        raise LocalProblem(f"The database did not answer: {type(error).__name__}.") from error
    except KafkaError as error:
        raise LocalProblem(f"Kafka did not answer: {type(error).__name__}.") from error
    if as_json:
        moved = {"consumer_group": group, "topic": topic, "partition": partition, "from": before, "to": offset}
        print(json.dumps(moved))
    else:
        console.print(f"{group} {topic} {partition}: {before} -> {offset}", markup=False, soft_wrap=True)


async def require_in_log(stack: Stack, *, topic: str, partition: int, offset: int) -> None:
    """Raises LocalProblem where the partition does not hold this offset and does not end there: a position outside the
    log stops the partition, or passes over what comes next without a word."""
    if topic not in TOPIC_OF:
        raise LocalProblem(f"There is no topic {topic}.")
    reader = LogReader(stack.kafka_bootstrap, stack.namespace, security=stack.kafka_access.options())
    bounds = (await reader.bounds(topic))[topic].get(partition)
    if bounds is None:
        raise LocalProblem(f"{topic} has no partition {partition}.")
    if not bounds.first <= offset <= bounds.end:
        raise LocalProblem(
            f"The log of {topic} {partition} begins at {bounds.first} and ends at {bounds.end}: "
            f"{offset} lies outside of it."
        )
