"""`careloop up` with stand-ins for the services: `python -m tests.deploy.run_up DATA [SEED_GATE]`. The rest is real."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.local.problems import LocalProblem
from deploy.local.programs import Program, ProgramPorts, population_program
from deploy.local.progress import Progress
from deploy.local.settings import LocalSettings
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor

# Waits for the file that it is given, so that a test decides when it ends; writes down what clinic time it found.
SEED = """
import pathlib, sys, time
gate, data = map(pathlib.Path, sys.argv[1:])
print('seed starts at', (data / 'clock.json').read_text(), flush=True)
while not gate.exists():
    time.sleep(0.05)
(data / 'clock.json').unlink()
"""


def tiny_services(stack: Stack, ports: ProgramPorts, settings: LocalSettings) -> list[Program]:
    return [
        Program(
            name=name,
            module="tests.deploy.tiny_service",
            arguments=(str(ports.services[name]),),
            env={},
            ready_url=f"{service.url}/health/ready",
            live_url=f"{service.url}/health/live",
        )
        for name, service in stack.services.items()
    ]


if __name__ == "__main__":
    data = Path(sys.argv[1])
    progress = Progress(Console())
    supervisor = Supervisor(
        settings=LocalSettings(data=data),
        data=data,
        progress=progress,
        seed=len(sys.argv) > 2,
        services=tiny_services,
        population=lambda data: replace(population_program(data), module="tests.deploy.tiny_service", arguments=("0",)),
        seed_command=lambda data, settings: [sys.executable, "-u", "-c", SEED, sys.argv[2], str(data)],
        live_every_s=0.2,
        on_running=lambda stack: progress.say("RUNNING"),
    )
    try:
        asyncio.run(supervisor.run())
    except LocalProblem as problem:
        sys.exit(f"careloop: {problem}")
