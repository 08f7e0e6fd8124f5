"""`careloop up` and `careloop down`."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.cli.options import DATA_DEFAULT, Data, Json, console, one_sentence
from deploy.local.invocation import careloop_command
from deploy.local.issuer.people import load_people
from deploy.local.problems import LocalProblem
from deploy.local.processes import Recorded, is_running, last_lines
from deploy.local.programs import ROOT
from deploy.local.progress import Progress
from deploy.local.servers import require_space
from deploy.local.settings import LocalSettings
from deploy.local.shutdown import stop_stack
from deploy.local.stack import Stack, load_stack
from deploy.local.supervisor import Supervisor
from deploy.simulator.waiting import tell_people

FOLLOW_S = 0.1
PEOPLE_SHOWN = 8


@one_sentence
def up(
    data: Data = DATA_DEFAULT,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it runs; stop it with `careloop down`.")
    ] = False,
    seed: Annotated[bool, typer.Option(help="Play in a simulated population the first time.")] = True,
    as_json: Json = False,
) -> None:
    """Start everything on this machine: servers, services, and a simulated population the first time."""
    data = data.absolute()
    if detach:
        stack = _start_detached(data, seed=seed, shown_on=_progress_console(as_json))
        if as_json:
            print(json.dumps(describe(stack)))
        return
    progress = Progress(_progress_console(as_json))
    supervisor = Supervisor(
        settings=LocalSettings(data=data),
        data=data,
        progress=progress,
        seed=seed,
        on_running=lambda stack: (
            print(json.dumps(describe(stack)), flush=True) if as_json else _announce(progress, stack)
        ),
    )
    asyncio.run(supervisor.run())


@one_sentence
def down(data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Stop what runs on a data directory, in order; also what a killed `up` left behind."""
    data = data.absolute()
    progress = Progress(_progress_console(as_json))
    stopped = asyncio.run(stop_stack(data, report=progress.say))
    if as_json:
        print(json.dumps({"data": str(data), "stopped": stopped}))
    else:
        progress.say("Everything is stopped." if stopped else f"Nothing runs on {data}.")


def _progress_console(as_json: bool) -> Console:
    """Standard output is the answer's alone where a program reads it."""
    return Console(stderr=True) if as_json else console


def describe(stack: Stack) -> dict[str, Any]:
    """A stack that runs, for a program: where everything is and who can sign in. Without passwords."""
    return {
        "data": str(stack.data),
        "console_url": stack.console_url,
        "mail_url": stack.mail_url,
        "issuer_url": stack.issuer_url,
        "kafka_bootstrap": stack.kafka_bootstrap,
        "services": {name: service.url for name, service in stack.services.items()},
        "people": [
            {"id": str(person.subject), "name": person.name, "roles": list(person.roles)}
            for person in load_people(stack.issuer_data)
        ],
    }


def _announce(progress: Progress, stack: Stack) -> None:
    people = tell_people(stack)
    progress.say("")
    progress.say(f"Careloop runs. The care-team console: {stack.console_url}")
    progress.say(f"Mail to members and clinicians:       {stack.mail_url}")
    if people:
        progress.say("Who can sign in there (choose a name, there is no password; all people are simulated):")
        for person in people[:PEOPLE_SHOWN]:
            progress.say(f"  {person}")
        if len(people) > PEOPLE_SHOWN:
            progress.say(f"  and {len(people) - PEOPLE_SHOWN} more")
    else:
        progress.say("Nobody can sign in there yet: this stack has no population.")
    down_command = careloop_command("down", "--data", str(stack.data))
    progress.say(f"Ctrl-C, or `{down_command}` from elsewhere, stops all of it.")


def _start_detached(data: Path, *, seed: bool, shown_on: Console) -> Stack:
    """Start a process of its own, show what it says until its stack runs, and return that."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    require_space(data)  # here too: the one we start could not write down what it says
    log = data / "up.log"
    command = [sys.executable, "-m", "deploy.cli.main", "up", "--data", str(data), "--seed" if seed else "--no-seed"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with log.open() as lines:
        while True:
            # Asked first: what it said before is still read.
            ended, stack = child.poll() is not None, _running(data, child.pid)
            while line := lines.readline():
                if line.startswith("careloop: "):
                    raise LocalProblem(line.removeprefix("careloop: ").strip())
                shown_on.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
            if ended:
                require_space(data)
                raise LocalProblem(f"It ended while it started: {last_lines(log, 1)} (see {log}).")
            if stack is not None:
                return stack
            time.sleep(FOLLOW_S)


def _running(data: Path, pid: int) -> Stack | None:
    """The stack on this data directory, once that process has brought it to run."""
    stack = load_stack(data)
    runs = (
        stack is not None
        and stack.supervisor_pid == pid
        and stack.state == "running"
        and is_running(Recorded(pid=pid, mark=stack.supervisor_mark))
    )
    return stack if runs else None
