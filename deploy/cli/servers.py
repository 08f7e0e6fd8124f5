"""`careloop migrate` and `careloop topics`: what the servers hold, brought up to date or shown."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.table import Table

from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, console, one_sentence
from deploy.local.problems import LocalProblem
from deploy.local.stack import running_stack
from shared.migrating import MigrationError
from shared.migrating import migrate as migrate_database
from shared.topics import TopicDiffers, create_topics, describe_topics


@one_sentence
def migrate(data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Bring the database of every service of a running stack up to date."""
    stack = running_stack(data.absolute())

    async def migrate_all() -> dict[str, list[str]]:
        return {
            name: await migrate_database(service.database_url, service=name) for name, service in stack.services.items()
        }

    try:
        applied = asyncio.run(migrate_all())
    except (MigrationError, *DATABASE_FAILURES) as error:
        raise LocalProblem(f"The migration failed: {str(error) or f'{type(error).__name__}.'}") from error
    if as_json:
        print(json.dumps(applied))
        return
    for name, migrations in applied.items():
        console.print(f"{name}: {', '.join(migrations) or 'up to date'}", markup=False, highlight=False)


@one_sentence
def topics(
    data: Data = DATA_DEFAULT,
    as_json: Json = False,
    create: Annotated[bool, typer.Option("--create", help="Make those that are missing first.")] = False,
) -> None:
    """Show the topics of the catalogue as the broker of a running stack has them."""
    stack = running_stack(data.absolute())
    security = stack.kafka_access.options()
    try:
        if create:
            asyncio.run(create_topics(stack.kafka_bootstrap, namespace=stack.namespace, security=security))
        found = asyncio.run(describe_topics(stack.kafka_bootstrap, namespace=stack.namespace, security=security))
    except (TopicDiffers, KafkaError) as error:
        raise LocalProblem(f"The topics could not be read: {error}") from error
    if as_json:
        print(json.dumps([{**asdict(topic), "settings": dict(topic.settings)} for topic in found]))
        return
    table = Table("topic", "partitions", "replicas", "retention")
    for topic in found:
        days = int(topic.settings["retention.ms"]) // 86_400_000
        table.add_row(topic.name, str(topic.partitions), str(topic.replication), f"{days} days")
    console.print(table)
