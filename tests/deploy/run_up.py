"""`careloop up` with stand-ins for the four services: `python -m tests.deploy.run_up DATA`. Everything else is real."""

import asyncio
import sys
from pathlib import Path

from rich.console import Console

from deploy.local.problems import LocalProblem
from deploy.local.programs import Program, ProgramPorts
from deploy.local.progress import Progress
from deploy.local.settings import LocalSettings
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor


def tiny_services(stack: Stack, ports: ProgramPorts, settings: LocalSettings) -> list[Program]:
    return [
        Program(
            name=name,
            module="tests.deploy.tiny_service",
            arguments=(str(ports.services[name]),),
            env={},
            ready_url=f"{service.url}/health/ready",
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
        seed=False,
        services=tiny_services,
        on_running=lambda stack: progress.say("RUNNING"),
    )
    try:
        asyncio.run(supervisor.run())
    except LocalProblem as problem:
        sys.exit(f"careloop: {problem}")
