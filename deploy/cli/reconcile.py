"""`careloop reconcile`: does everything add up?"""

import asyncio
import json
from dataclasses import asdict

import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from deploy.cli.options import DATA_DEFAULT, DATABASE_FAILURES, Data, Json, console, one_sentence, print_figures
from deploy.local.problems import LocalProblem
from deploy.local.stack import running_stack
from deploy.reconciliation.books import CLASSES
from deploy.reconciliation.log import LogSilent
from deploy.reconciliation.reconcile import Report
from deploy.reconciliation.reconcile import reconcile as reconcile_stack
from shared.clock import open_clock


@one_sentence
def reconcile(data: Data = DATA_DEFAULT, as_json: Json = False) -> None:
    """Hold the log against every subscriber's books: nothing lost, nothing doubled. Ends with 1 if it does not."""
    stack = running_stack(data.absolute())
    databases = {name: service.database_url for name, service in stack.services.items()}
    try:
        with console.status("reading the log", spinner="dots") as shown:
            report = asyncio.run(
                reconcile_stack(
                    bootstrap=stack.kafka_bootstrap,
                    security=stack.kafka_access.options(),
                    namespace=stack.namespace,
                    databases=databases,
                    clock=open_clock(stack.clock_file),
                    progress=(lambda _: None) if as_json else shown.update,
                )
            )
    except (KafkaError, LogSilent, *DATABASE_FAILURES) as error:
        raise LocalProblem(f"A server did not answer: {type(error).__name__}.") from error
    if as_json:
        print(json.dumps({"ok": report.ok, **asdict(report)}))
    else:
        show(report)
    if not report.ok:
        raise typer.Exit(1)


def show(report: Report, *, to: Console = console) -> None:
    """One row a consumer group, partitions added up; then what does not add up, line by line."""
    rows: list[tuple[str | int, ...]] = []
    for group, topic in dict.fromkeys((line.consumer_group, line.topic) for line in report.lines):
        lines = [line for line in report.lines if (line.consumer_group, line.topic) == (group, topic)]
        sums = [sum(line.classes[name] for line in lines) for name in CLASSES]
        totals = [sum(line.in_log for line in lines), sum(line.read for line in lines), *sums]
        rows.append((group, *totals, sum(line.missing for line in lines)))
    print_figures(("consumer group", "in log", "read", *CLASSES, "missing"), rows, to=to)
    for service, found in report.services.items():
        figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items())
        to.print(f"{service}: {figures}", markup=False, soft_wrap=True)
    problems = report.problems + [
        f"{line.consumer_group} {line.topic} {line.partition}: {problem}"
        for line in report.lines
        for problem in line.problems
    ]
    for problem in problems:
        to.print(f"[red]does not add up:[/] {escape(problem)}", soft_wrap=True)
    to.print("everything adds up" if report.ok else f"{len(problems)} problems", style="green" if report.ok else "red")
