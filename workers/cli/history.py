"""``douse history`` lists executions; ``history rebuild`` rebuilds the store from the log and compares.

The list comes from the gateway; a rebuild reads the log itself, over wiring.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.client import ContextOption, DataOption, LocalDataOption, connected
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption
from workers.cli.show import FromOption, MostOption, SinceOption, ToOption, between, show_executions
from workers.domain.history.rebuild import Rebuilt
from workers.system import yaml_files

commands = typer.Typer(name="history", help="Executions, newest request first.", invoke_without_command=True)


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
    rule: Annotated[str, typer.Option("--rule", help="The response rule that requested it.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="The person or rule that requested it.")] = "",
    action: Annotated[str, typer.Option("--action")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="COMPLETED, NO_ACTION, REJECTED, FAILED …")] = "",
    stage: Annotated[str, typer.Option("--stage", help="REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED.")] = "",
    event: Annotated[str, typer.Option("--event", help="The event that led to it.", metavar="ID")] = "",
    since: SinceOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    most: MostOption = 25,
    data: DataOption = None,
    named: ContextOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Executions, newest request first."""
    if context.invoked_subcommand is not None:
        return
    with connected(data, named) as client:
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
            **between(since, from_, to),
        }
        rows = list(client.pages("executions", most=most, query=query))
    show_executions(rows, output)


@commands.command()
def rebuild(
    check: Annotated[bool, typer.Option("--check", help="Only compare; do not replace the live store.")] = False,
    even_if_different: Annotated[
        bool,
        typer.Option("--although-different", help="Replace the live store even if it differs; the old store is kept."),
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="The projector's settings file.", metavar="FILE")
    ] = None,
    data: LocalDataOption = None,
) -> None:
    """Rebuild the history store from the log, carry over what is older than the log, compare, and replace.

    Projector and gateway may keep running. Exit 1 if the stores differ; then nothing is replaced without
    --although-different."""
    from workers.settings import ProjectorSettings, parse
    from workers.wiring.projector import Choice, rebuild_history

    path = config or (data if data is not None else DEFAULT_DATA).expanduser() / "config" / "projector.yaml"
    if not path.exists():
        raise Failure(f"give --config FILE, or the --data of a `douse up` ({path} does not exist)", Exit.USAGE)
    settings = parse(ProjectorSettings, yaml_files.read_mapping(path), file=path)
    made = rebuild_history(settings, Choice(not check, even_if_different), progress=_progress)
    for line in _report(made):
        typer.echo(line)
    if not made.equal and not made.replaced:
        raise Failure(
            "the live store differs and was not replaced; --although-different replaces it and keeps the old one",
            Exit.FAILED,
        )


def _report(made: Rebuilt) -> Iterator[str]:
    yield f"{made.records} records folded; digest {made.digest}"
    for position, behind in sorted(made.behind.items()):
        yield f"{position}: {behind} record(s) of the history are no longer in the log"
    if made.carried.carried:
        yield f"carried over, older than the log: {made.carried.carried}"
    if made.carried.left:
        yield f"only in the old store (recent enough to be in the log, or no longer verified): {made.carried.left}"
    yield "the old store has the same content" if made.equal else f"the old store's digest is {made.live_digest}"
    if made.replaced:
        yield f"the new store is live; the old one is kept as {made.kept}" if made.kept else "the new store is live"


def _progress(records: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{records} records", err=True, nl=False)
