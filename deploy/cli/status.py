"""`careloop status`: is everything of a stack well?"""

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import typer
from rich.markup import escape
from rich.table import Table

from deploy.cli.options import DATA_DEFAULT, Data, Json, console, one_sentence, print_whole
from deploy.local.kafka import kafka_answers
from deploy.local.postgres import postgres_answers
from deploy.local.processes import ProcessFile, is_running
from deploy.local.stack import Stack, load_stack
from deploy.local.valkey import valkey_answers

ANSWER_LIMIT_S = 3.0
COUNT_LIMIT_S = 15.0
"""What a service holds is counted in its database, and looked for in a log that may not answer."""
OUTBOX_STANDS_S = 60.0
"""An event that waits for Kafka longer than this is an alarm, as in deploy/monitoring/alerts.yaml."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a stack. `detail` says what is wrong, or where it is; never a password."""

    name: str
    ok: bool
    detail: str
    pid: int | None = None


@one_sentence
def status(data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Ask every part of a stack how it is. Ends with 1 if anything is wrong, or if nothing runs."""
    data = data.absolute()
    stack = load_stack(data)
    running = stack is not None and stack.is_supervised()
    parts = asyncio.run(ask_all(stack)) if stack is not None and running else []
    ok = running and all(part.ok for part in parts)
    if as_json:
        state = stack.state if stack is not None and running else "stopped"
        print(json.dumps({"ok": ok, "state": state, "data": str(data), "parts": [asdict(part) for part in parts]}))
    elif stack is None or not running:
        console.print(f"No stack runs on {data}.", markup=False, soft_wrap=True)
    else:
        print_whole(_table(stack, parts))
    if not ok:
        raise typer.Exit(1)


def _table(stack: Stack, parts: list[Part]) -> Table:
    table = Table(title=escape(f"Careloop on {stack.data}: {stack.state}"))
    for column in ("part", "state", "pid", "detail"):
        table.add_column(column)
    for part in parts:
        state = "[green]well[/green]" if part.ok else "[bold red]ALARM[/bold red]"
        table.add_row(part.name, state, str(part.pid or ""), escape(part.detail))
    return table


async def ask_all(stack: Stack) -> list[Part]:
    """Every process's own readiness, and an answer of each server."""
    record = ProcessFile(path=stack.data / "processes.json").load()
    alive = {name: entry.pid for name, entry in record.entries.items() if is_running(entry)}
    pages = {
        "issuer": (stack.issuer_url, "/.well-known/openid-configuration"),
        "mail_sink": (stack.mail_url, "/"),
        **{name: (service.url, "/health/ready") for name, service in stack.services.items()},
    }
    servers = {
        "kafka": (stack.kafka_bootstrap, kafka_answers(stack.kafka_bootstrap, security=stack.kafka_access.options())),
        "postgres": (stack.postgres_url.rpartition("@")[2], postgres_answers(stack.postgres_url)),
        "valkey": (stack.valkey_url.rpartition("@")[2], valkey_answers(stack.valkey_url)),
    }
    answered = await asyncio.gather(*(asked for _, asked in servers.values()))
    parts = [
        Part(name=name, ok=ok, detail=where if ok else f"does not answer on {where}", pid=alive.get(name))
        for (name, (where, _)), ok in zip(servers.items(), answered, strict=True)
    ]
    if stack.state == "running":
        lives = "population" in alive
        detail = "simulated people live on" if lives else "is not running"
        parts.append(Part(name="population", ok=lives, detail=detail, pid=alive.get("population")))
    async with httpx.AsyncClient(timeout=ANSWER_LIMIT_S, trust_env=False) as client:
        parts += await asyncio.gather(
            *(_ask_page(client, name, base, path, alive.get(name)) for name, (base, path) in pages.items())
        )
        parts += await asyncio.gather(*(ask_held(client, name, s.url) for name, s in stack.services.items()))
    return parts


async def ask_held(client: httpx.AsyncClient, name: str, base: str) -> Part:
    """Dead letters and timers that were given up wait for an operator, so they are an alarm, and so is an outbox that
    nobody empties; what waits by itself is not."""
    name = f"{name} events"
    try:
        held: dict[str, Any] = (await client.get(f"{base}/health/progress", timeout=COUNT_LIMIT_S)).json()
        numbers = [held[state] for state in ("dead", "parked", "waiting", "given_up_timers", "outbox_oldest_s")]
    except KeyError as missing:
        return Part(name=name, ok=False, detail=f"cannot be told ({held.get('why', f'no {missing}')})")
    except (httpx.HTTPError, ValueError) as error:
        return Part(name=name, ok=False, detail=f"cannot be told ({type(error).__name__})")
    dead, parked, waiting, given_up, outbox_s = numbers
    detail = f"{dead} dead letters, {parked} parked behind them, {waiting} waiting for what they need"
    if given_up:
        detail += f"; {given_up} timers failed too often and are not tried again"
    if stands := outbox_s > OUTBOX_STANDS_S:
        detail += f"; an event has waited {outbox_s:.0f} s to be handed over to Kafka"
    return Part(name=name, ok=not dead and not given_up and not stands, detail=detail)


async def _ask_page(client: httpx.AsyncClient, name: str, base: str, path: str, pid: int | None) -> Part:
    if pid is None:
        return Part(name=name, ok=False, detail="is not running")
    try:
        answer = await client.get(base + path)
    except httpx.HTTPError as error:
        return Part(name=name, ok=False, detail=f"does not answer on {base} ({type(error).__name__})", pid=pid)
    if answer.status_code != httpx.codes.OK:
        return Part(name=name, ok=False, detail=f"not ready: {_reason(answer)}", pid=pid)
    return Part(name=name, ok=True, detail=base, pid=pid)


def _reason(answer: httpx.Response) -> str:
    try:
        body: Any = answer.json()
    except ValueError:
        return f"answered {answer.status_code}"
    return json.dumps(body)[:300]
