"""``douse history``, and ``history rebuild``: what was asked and done, and the proof that the log says the same.

Called by the frame. The list comes from the gateway; a rebuild reads the log itself, over bootstrap.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.client import DataOption, connected
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption
from workers.cli.show import MostOption, SinceOption, show_executions
from workers.domain.history.rebuild import Rebuilt
from workers.system import yaml_files

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
    check: Annotated[bool, typer.Option("--check", help="Only compare; leave the live store where it is.")] = False,
    even_if_different: Annotated[
        bool, typer.Option("--although-different", help="Replace it even if it differs; it is kept beside the new one.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="The projector's settings file.", metavar="FILE")
    ] = None,
    data: DataOption = None,
) -> None:
    """Fold the log anew into a store beside the live one, carry over what is older than the log, compare, and replace.

    Projector and gateway may run meanwhile. Exit 1 when the two differ; then nothing is replaced, unless told to."""
    from workers.settings import ProjectorSettings, parse
    from workers.wiring.projector import Choice, rebuild_history

    path = config or (data if data is not None else DEFAULT_DATA).expanduser() / "config" / "projector.yaml"
    if not path.exists():
        raise Failure(f"name --config FILE, or the --data of a `douse up` ({path} is not there)", Exit.USAGE)
    settings = parse(ProjectorSettings, yaml_files.read_mapping(path))
    made = rebuild_history(settings, Choice(not check, even_if_different), progress=_progress)
    for line in _told(made):
        typer.echo(line)
    if not made.equal and not made.replaced:
        raise Failure(
            "the live store differs and was left in place; --although-different replaces it and keeps it", Exit.FAILED
        )


def _told(made: Rebuilt) -> Iterator[str]:
    yield f"{made.records} records folded; digest {made.digest}"
    for place, behind in sorted(made.behind.items()):
        yield f"{place}: {behind} record(s) that history has are no longer in the log"
    if made.carried.carried:
        yield f"carried over, older than the log: {made.carried.carried}"
    if made.carried.left:
        yield f"only in the old store, though young enough to be in the log, or no longer believed: {made.carried.left}"
    yield "the old store held exactly the same" if made.equal else f"the old store's digest is {made.live_digest}"
    if made.replaced:
        yield f"the new store is live; the old one is kept as {made.kept}" if made.kept else "the new store is live"


def _progress(records: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{records} records", err=True, nl=False)
