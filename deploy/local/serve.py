"""`python -m deploy.local.serve --data DIR`: the three servers alone, until Ctrl-C. Prints their URLs as exports."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from deploy.local.problems import LocalProblem
from deploy.local.processes import Recorded, is_running, start_mark
from deploy.local.servers import ServerChoices, Servers, embedded_servers

WATCH_S = 0.5


def exports(servers: Servers) -> str:
    """Lines for a shell to read: the same settings that make a server external."""
    return (
        f"export CARELOOP_KAFKA_BOOTSTRAP='{servers.kafka_bootstrap}'\n"
        f"export CARELOOP_POSTGRES_URL='{servers.postgres_url}'\n"
        f"export CARELOOP_VALKEY_URL='{servers.valkey_url}'\n"
    )


def write_exports(path: Path, servers: Servers) -> None:
    """At once, so that who waits for the file never reads half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(exports(servers))
    partial.replace(path)


async def serve(data: Path, choices: ServerChoices, *, env_file: Path | None, until_ends: int | None) -> None:
    """Runs them until a signal, or until the process `until_ends` is gone: a killed test run leaves nothing."""
    stopping = asyncio.Event()
    watched = None if until_ends is None else Recorded(pid=until_ends, mark=start_mark(until_ends) or "")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    async with embedded_servers(data=data, choices=choices, report=report) as servers:
        if env_file is None:
            print(exports(servers), end="", flush=True)
        else:
            write_exports(env_file, servers)
        while not stopping.is_set() and (watched is None or is_running(watched)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), WATCH_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--env-file", type=Path, help="write the exports here instead of to standard output")
    parser.add_argument("--kafka-port", type=int, default=0)
    parser.add_argument("--postgres-port", type=int, default=0)
    parser.add_argument("--valkey-port", type=int, default=0)
    parser.add_argument("--postgres-connections", type=int, default=200)
    parser.add_argument("--kafka-heap-mb", type=int, default=512)
    parser.add_argument("--until-ends", type=int, metavar="PID", help="stop when this process has ended")
    given = parser.parse_args()
    choices = ServerChoices(
        kafka_port=given.kafka_port,
        postgres_port=given.postgres_port,
        valkey_port=given.valkey_port,
        postgres_connections_max=given.postgres_connections,
        kafka_heap_mb=given.kafka_heap_mb,
    )
    try:
        asyncio.run(serve(given.data, choices, env_file=given.env_file, until_ends=given.until_ends))
    except LocalProblem as problem:
        raise SystemExit(f"careloop: {problem}") from None


if __name__ == "__main__":
    main()
