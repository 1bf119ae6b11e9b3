"""``douse up``: all workers on this machine, until it is stopped.

The work is in ``machine`` (bring up and down), ``supervisor`` (processes) and
``data_dir`` (files).
"""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.context import DEFAULT_DATA
from workers.cli.worker import stop_on_signals

UNSIGNED = (
    "warning: events on falco.events are believed without a signature, and the embedded broker has no access rules: "
    "every local user can have your rules kill processes and quarantine files with the rights of this node"
)
"""What ``--unsigned-events`` is warned of."""


def register(app: typer.Typer) -> None:
    """Add ``douse up``."""
    app.command("up", rich_help_panel="One machine")(up)


def up(
    data: Annotated[Path, typer.Option("--data", help="The data directory.", metavar="DIR")] = DEFAULT_DATA,
    port: Annotated[
        int, typer.Option("--port", help="The gateway's port on loopback; 0 takes a free one.", min=0, max=65_535)
    ] = 8080,
    unsigned_events: Annotated[
        bool,
        typer.Option(
            "--unsigned-events",
            help="Also believe events on falco.events, which no key signs: every local user can write there.",
        ),
    ] = False,
) -> None:
    """Run all workers on this machine with an embedded broker, until Ctrl-C or SIGTERM."""
    from workers.cli.up.data_dir import DataDir
    from workers.cli.up.machine import running

    stop = stop_on_signals()
    directory = DataDir(data.expanduser().absolute())
    if unsigned_events:
        typer.echo(UNSIGNED, err=True)
    typer.echo(f"starting on {directory.root} …")
    with running(directory, port, report=typer.echo, stop=stop, unsigned_events=unsigned_events) as machine:
        typer.echo(f"ready: {machine.start.url}")
        typer.echo(f"node:  {machine.start.node_id}")
        typer.echo(f"token: {machine.start.token}   (also in {directory.context})")
        typer.echo(f"rules: {directory.rules}, read at start   logs: {directory.log('node').parent}")
        while not stop.wait(0.2):
            for line in machine.supervisor.step():
                typer.echo(line)
        typer.echo("stopping …")
