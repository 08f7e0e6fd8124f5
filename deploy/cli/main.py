"""The commands of `careloop`, each in a file by its subject."""

import typer

from deploy.cli import dead_letters, positions, reconcile, servers, shadow, simulate, stack, status, why

app = typer.Typer(
    name="careloop",
    help="Starts, stops and questions a Careloop stack on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(status.status)
app.command()(simulate.simulate)
app.command()(servers.migrate)
app.command()(servers.topics)
app.command()(reconcile.reconcile)
app.command()(why.why)
app.add_typer(positions.app, name="positions")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(shadow.app, name="shadow")

if __name__ == "__main__":
    app()
