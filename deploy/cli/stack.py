"""`careloop up` and `careloop down`."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DATA_DEFAULT, Data, console, one_sentence
from deploy.local.problems import LocalProblem
from deploy.local.processes import Recorded, is_running, last_lines
from deploy.local.programs import ROOT
from deploy.local.progress import Progress
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
) -> None:
    """Start everything on this machine: servers, services, and a simulated population the first time."""
    data = data.absolute()
    if detach:
        _start_detached(data, seed=seed)
        return
    progress = Progress(console)
    supervisor = Supervisor(
        settings=LocalSettings(data=data),
        data=data,
        progress=progress,
        seed=seed,
        on_running=lambda stack: _announce(progress, stack),
    )
    asyncio.run(supervisor.run())


@one_sentence
def down(data: Data = DATA_DEFAULT) -> None:
    """Stop what runs on a data directory, in order; also what a killed `up` left behind."""
    progress = Progress(console)
    stopped = asyncio.run(stop_stack(data.absolute(), report=progress.say))
    progress.say("Everything is stopped." if stopped else f"Nothing runs on {data}.")


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
    progress.say(f"Ctrl-C, or `careloop down --data {stack.data}` from elsewhere, stops all of it.")


def _start_detached(data: Path, *, seed: bool) -> None:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
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
            ended, runs = child.poll() is not None, _runs(data, child.pid)
            while line := lines.readline():
                if line.startswith("careloop: "):
                    raise LocalProblem(line.removeprefix("careloop: ").strip())
                console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)
            if ended:
                raise LocalProblem(f"It ended while it started: {last_lines(log, 1)} (see {log}).")
            if runs:
                return
            time.sleep(FOLLOW_S)


def _runs(data: Path, pid: int) -> bool:
    stack = load_stack(data)
    return (
        stack is not None
        and stack.supervisor_pid == pid
        and stack.state == "running"
        and is_running(Recorded(pid=pid, mark=stack.supervisor_mark))
    )
