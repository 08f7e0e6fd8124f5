"""`careloop simulate`: one more simulated population in a running stack."""

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.cli.options import DATA_DEFAULT, Data, Json, console, one_sentence
from deploy.local.problems import LocalProblem
from deploy.local.stack import running_stack
from deploy.simulator.backlog import Played, play_backlog
from deploy.simulator.people import Cohort
from shared.clock import monotonic, wall_now

MEMBERS_MAX = 100_000


@dataclass(frozen=True)
class _Shown:
    """A progress bar on a terminal, nothing in a pipe."""

    progress: Progress
    bar: Any

    def __call__(self, done: int, total: int, doing: str) -> None:
        self.progress.update(self.bar, completed=done, total=total, description=doing)


@one_sentence
def simulate(
    data: Data = DATA_DEFAULT,
    members: Annotated[int, typer.Option(min=1, max=MEMBERS_MAX, help="How many members.")] = 50,
    days: Annotated[int, typer.Option(min=1, max=365, help="How many days ago their lives began.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, members and days publish the same bytes.")] = 7,
    via: Annotated[Literal["http", "kafka"], typer.Option(help="How their apps publish activity.")] = "http",
    as_json: Json = False,
) -> None:
    """Enrol a simulated population and let its phones send what happened in the last days; then it lives on.

    Clinic time of a running stack never goes back, so the days are history that arrives now, as from phones that were
    without signal; what is older than 29 days was forgotten. The first population of a stack, which `up` plays in,
    lives its twelve weeks on a fast clock instead.
    """
    stack = running_stack(data.absolute())
    if stack.state == "seeding":
        raise LocalProblem("The first population is still being played in: wait until `up` says that Careloop runs.")
    cohort = Cohort(seed=seed, members=members, days=days, starts_on=wall_now().date() - timedelta(days=days))
    started = monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=as_json, transient=True) as progress:
        shown = _Shown(progress, progress.add_task("preparing"))
        played = asyncio.run(play_backlog(stack, cohort=cohort, via=via, show=shown))
    _tell(played, seconds=monotonic() - started, as_json=as_json)


def _tell(played: Played, *, seconds: float, as_json: bool) -> None:
    body = {
        "population": played.population,
        "members": played.sent.intakes,
        "events": played.sent.events,
        "messages": played.sent.messages,
        "forgotten": played.forgotten,
        "refused": dict(played.sent.refused),
        "settled": played.settled,
        "seconds": round(seconds, 1),
        "sha256": played.digest,
    }
    if as_json:
        print(json.dumps(body))
        return
    console.print(
        f"Population {played.population}: {body['members']} members joined, {body['events']} events and "
        f"{body['messages']} messages were sent in {body['seconds']} s."
    )
    if played.forgotten:
        console.print(f"{played.forgotten} events older than 29 days were not sent: the services refuse them.")
    for reason, count in played.sent.refused.items():
        console.print(f"refused: {count} x {reason}", markup=False)
    console.print("All of it has been worked off." if played.settled else "The services still work on it.")
    console.print(f"SHA-256 of the published stream: {played.digest}", markup=False, highlight=False, soft_wrap=True)
