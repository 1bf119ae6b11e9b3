"""``douse history``, and ``history rebuild``: what was asked and done, and the proof that the log says the same.

Called by the frame. The list comes from the gateway; a rebuild reads the log itself, over bootstrap, into a new store,
and never touches the live one.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from workers.adapters import yaml_files
from workers.cli.client import DataOption, connected
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.listing import Output, OutputOption
from workers.cli.looking import MostOption, SinceOption, show_executions

commands = typer.Typer(
    name="history", help="What was asked and what was done, newest request first.", invoke_without_command=True
)


def register(app: typer.Typer) -> None:
    """Add ``douse history``."""
    app.add_typer(commands, rich_help_panel="History")


@commands.callback()
def history(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Node id or host name.")] = "",
    container: Annotated[str, typer.Option("--container", help="Container id, 12 digits or more.")] = "",
    workload: Annotated[str, typer.Option("--workload")] = "",
    cluster: Annotated[str, typer.Option("--cluster")] = "",
    rule: Annotated[str, typer.Option("--rule", help="The response rule that asked.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="The person or rule that asked.")] = "",
    action: Annotated[str, typer.Option("--action")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="COMPLETED, NO_ACTION, REJECTED, FAILED …")] = "",
    stage: Annotated[str, typer.Option("--stage", help="REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED.")] = "",
    event: Annotated[str, typer.Option("--event", help="The event that led there.", metavar="ID")] = "",
    since: SinceOption = "",
    most: MostOption = 25,
    data: DataOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What was asked and what was done, newest request first."""
    if context.invoked_subcommand is not None:
        return
    with connected(data) as client:
        query = {
            "host": host,
            "container": container,
            "workload": workload,
            "cluster": cluster,
            "rule": rule,
            "actor": actor,
            "action": action,
            "outcome": outcome,
            "stage": stage,
            "event_id": event,
            "since": since,
        }
        rows = list(client.pages("executions", most=most, query=query))
    show_executions(rows, output)


@commands.command()
def rebuild(
    store: Annotated[Path, typer.Argument(help="The new store, a SQLite file that is not there yet.", metavar="FILE")],
    config: Annotated[
        Path | None, typer.Option("--config", help="The projector's settings file.", metavar="FILE")
    ] = None,
    data: DataOption = None,
) -> None:
    """Fold the log anew into a store beside the live one, and compare; exit 1 when they differ. Stop the projector
    first: what it folds meanwhile is a difference too."""
    from workers.bootstrap.projector import rebuild_history
    from workers.settings import ProjectorSettings, parse

    path = config or (data if data is not None else DEFAULT_DATA).expanduser() / "config" / "projector.yaml"
    if not path.exists():
        raise Failure(f"name --config FILE, or the --data of a `douse up` ({path} is not there)", Exit.USAGE)
    if store.exists():
        raise Failure(f"{store} is there already; name a new file", Exit.USAGE)
    settings = parse(ProjectorSettings, yaml_files.read_mapping(path))
    made = rebuild_history(settings, f"sqlite:///{store.absolute()}", progress=_progress)
    for place, behind in sorted(made.behind.items()):
        typer.echo(f"{place}: {behind} record(s) that history has are no longer in the log")
    typer.echo(f"{made.records} records folded; digest {made.digest}")
    if not made.equal:
        lost = sum(made.behind.values())
        why = f"; {lost} record(s) are only in it any more, so keep it" if lost else ""
        raise Failure(f"the live store differs: its digest is {made.live_digest}{why}", Exit.FAILED)
    typer.echo("the live store holds exactly the same")


def _progress(records: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{records} records", err=True, nl=False)
