"""A stack as its `stack.json` describes it, run by this very process: what the commands need to find it."""

import asyncio
import os
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.local.processes import start_mark
from deploy.local.stack import Stack, StackService, save_stack
from tests.fixtures.servers import RunningServers


def write_stack(
    data: Path, *, servers: RunningServers, namespace: str, databases: dict[str, str], **others: Any
) -> Stack:
    """Of services with these databases. `others` are further fields of it."""
    values: dict[str, Any] = {
        "state": "running",
        "supervisor_pid": os.getpid(),
        "supervisor_mark": start_mark(os.getpid()),
        "data": data,
        "namespace": namespace,
        "kafka_bootstrap": servers.kafka_bootstrap,
        "postgres_url": servers.postgres_url,
        "valkey_url": servers.valkey_url,
        "embedded": (),
        "services": {name: StackService(url="http://127.0.0.1:9", database_url=url) for name, url in databases.items()},
        "console_url": "http://127.0.0.1:9",
        "issuer_url": "http://127.0.0.1:9",
        "issuer_data": data / "issuer",
        "mail_url": "http://127.0.0.1:9",
        "smtp_port": 9,
        "clock_file": data / "clock.json",
        "simulation": data / "simulations" / "test",
        **others,
    }
    stack = Stack(**values)
    save_stack(stack)
    return stack


async def careloop(*arguments: str, data: Path) -> Result:
    """What a command says; in a thread, as it has an event loop of its own."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments, "--data", str(data)]))
