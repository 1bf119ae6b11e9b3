"""``douse show``, ``contained``, ``events``, ``nodes``, ``actions``, ``health``: the reading commands.

They print what the gateway answers and decide nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeAlias

import typer

from workers.cli.client import ContextOption, DataOption, connected
from workers.cli.exits import Exit, Failure
from workers.cli.keys import register_nodes
from workers.cli.output import Output, OutputOption, legible, print_document, print_rows, progress_text

_EXECUTIONS: Final = ("requested_at", "id", "action", "host", "target", "stage", "outcome", "actor", "code")
_CONTAINED: Final = (*_EXECUTIONS, "can be undone")
_EVENTS: Final = ("occurred_at", "id", "priority", "rule", "host", "process", "executions")
_NODES: Final = (
    *("node_id", "host_names", "zone", "health", "at", "queued", "running"),
    *("gathering", "actions", "version", "verified"),
)
_ACTIONS: Final = ("name", "summary", "target", "lane", "reversible_by", "offered_by")

MostOption: TypeAlias = Annotated[int, typer.Option("--limit", help="Maximum number of rows.", min=1, max=100_000)]
SinceOption: TypeAlias = Annotated[str, typer.Option("--since", help="An age (30m, 24h, 7d) or an RFC 3339 time.")]

FromOption: TypeAlias = Annotated[str, typer.Option("--from", help="First moment: RFC 3339 with a zone.")]
ToOption: TypeAlias = Annotated[str, typer.Option("--to", help="First moment that is left out.")]


def between(since: str, from_: str, to: str) -> Mapping[str, str]:
    """The query of a list's times.

    Raises:
        Failure: --since and --from, which mean the same end.
    """
    if since and from_:
        raise Failure("give --since or --from, not both", Exit.USAGE)
    return {"since": since, "from": from_, "to": to}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for part, name, command in _COMMANDS:
        app.command(name, rich_help_panel=part)(command)
    fleet = typer.Typer(name="nodes", invoke_without_command=True)
    fleet.callback()(nodes)
    register_nodes(fleet)
    app.add_typer(fleet, rich_help_panel="Fleet")


def contained(data: DataOption = None, named: ContextOption = None, output: OutputOption = Output.TABLE) -> None:
    """What is contained right now."""
    with connected(data, named) as client:
        show_executions(client.get("contained")["data"], output, columns=_CONTAINED)


def show_one(
    execution_id: Annotated[str, typer.Argument(help="An execution id.", metavar="ID")],
    data: DataOption = None,
    named: ContextOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """One execution: the request, every step, the outcome and its proof."""
    with connected(data, named) as client:
        execution = client.get("executions", execution_id)
    if output is not Output.TABLE:
        print_document(execution, output)
        return
    for name, value in _facts(execution):
        typer.echo(f"{name:<16} {legible(value)}")
    typer.echo("")
    print_rows(
        [{**step, "outcome": step["outcome"] or step["alarm"] or ""} for step in execution["steps"]],
        output,
        columns=("at", "stage", "outcome", "producer", "attempt", "signer", "code", "message"),
    )


def events(
    host: Annotated[str, typer.Option("--host", help="Node id or host name.")] = "",
    rule: Annotated[str, typer.Option("--rule", help="The detector's rule.")] = "",
    container: Annotated[str, typer.Option("--container", help="Container id, 12 digits or more.")] = "",
    workload: Annotated[str, typer.Option("--workload", help="Kubernetes pod or workload.")] = "",
    cluster: Annotated[str, typer.Option("--cluster")] = "",
    event: Annotated[str, typer.Option("--id", help="One event, in full.", metavar="ID")] = "",
    since: SinceOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    most: MostOption = 25,
    data: DataOption = None,
    named: ContextOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Events of detectors, newest first, and the executions they led to."""
    with connected(data, named) as client:
        if event:
            print_document(client.get("events", event), output)
            return
        query = {"host": host, "rule": rule, "container": container, **between(since, from_, to)}
        query |= {"workload": workload, "cluster": cluster}
        rows = list(client.pages("events", most=most, query=query))
    print_rows(rows if output is not Output.TABLE else [_event_row(row) for row in rows], output, columns=_EVENTS)


def nodes(
    ctx: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Node id or host name.")] = "",
    data: DataOption = None,
    named: ContextOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Every known node, with its newest heartbeat; or let one leave."""
    if ctx.invoked_subcommand is not None:
        return
    with connected(data, named) as client:
        rows = client.get("nodes", query={"host": host})["data"]
    print_rows(rows if output is not Output.TABLE else [_node_row(row) for row in rows], output, columns=_NODES)


def actions(
    name: Annotated[str, typer.Argument(help="One action, in full.")] = "",
    host: Annotated[str, typer.Option("--host", help="Only what this node offers: node id or host name.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what no node offers now.")] = False,
    data: DataOption = None,
    named: ContextOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The actions that nodes offer: parameters, outputs, drawbacks, privileges, reverse action."""
    query = {"host": host, "all": "true" if everything else ""}
    with connected(data, named) as client:
        found = client.get("actions", name) if name else client.get("actions", query=query)["data"]
    if name:
        print_document(found, output)
    else:
        print_rows([{**row, "reversible_by": row["reversible_by"] or ""} for row in found], output, columns=_ACTIONS)


def health(data: DataOption = None, named: ContextOption = None, output: OutputOption = Output.TABLE) -> None:
    """Whether the gateway works and how far history is; exit 1 if history has unverified records, conflicts or gaps."""
    with connected(data, named) as client:
        found = client.get("health")
    print_document(found, output)
    if found.get("unverified") or found.get("conflicts") or found.get("gaps"):
        raise typer.Exit(Exit.FAILED)


def show_executions(rows: list[Mapping[str, Any]], output: Output, *, columns: tuple[str, ...] = _EXECUTIONS) -> None:
    """Print executions, one line each."""
    print_rows(rows if output is not Output.TABLE else [_execution_row(row) for row in rows], output, columns=columns)


def _execution_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    target = row["target"]["description"] if row["target"] else ""
    outcome = (row["outcome"] or "") + (" (undone)" if row["undone_by"] else "")
    actor = row["rule"] or row["actor"]
    return {**row, "target": target, "outcome": outcome, "actor": actor, "can be undone": _undoable(row)}


def _node_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the number of enabled actions, whose names would fill the line, and what it copies and uploads."""
    gathering = [f"{each['execution_id'][-8:]} {progress_text(each)}" for each in row["gathering"]]
    return {**row, "actions": len(row["actions"]), "gathering": gathering}


def _event_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    line = row["process_line"]
    return {**row, "process": f"{line[0]['pid']} {line[0]['name']}" if line else ""}


def _facts(execution: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The facts that are known, most important first."""
    target, condition, timings = execution["target"], execution["post_condition"], execution["timings"]
    undone = execution["undone_by"]
    facts = {
        "execution": execution["id"],
        "action": execution["action"] + (" (dry run)" if execution["dry_run"] else ""),
        "target": target["description"] if target else "",
        "host": f"{execution['host']} (node {execution['node_id'] or 'not known yet'})",
        "requested by": f"{execution['actor_kind']} {execution['actor']}",
        "reason": execution["reason"],
        "event": execution["event_id"],
        "undo of": execution["undo_of"],
        "stage": execution["stage"],
        "outcome": execution["outcome"],
        "progress": progress_text(execution["progress"]) if execution.get("progress") else "",
        "code": execution["code"],
        "message": execution["message"],
        "post-condition": f"{condition['name']}: {'holds' if condition['holds'] else 'does not hold'}"
        if condition
        else "",
        "effect": "in place" if execution["effect_holds"] else "",
        "can be undone": _undoable(execution),
        "undone by": _undo(undone) if undone else "",
        "undo requested": [_undo(each) for each in execution["undos"] if each != undone],
        "parameters": _pairs(execution["parameters"]),
        "outputs": _pairs(execution["outputs"]),
        "configuration": _pairs(execution["configuration"]),
        "command sha256": execution["command_sha256"],
        "event to acted": _span(timings["detected_to_acted_us"]),
        "event to proof": _span(timings["detected_to_verified_us"]),
        "alarms": execution["alarms"],
        "conflict": "two different outcomes were signed" if execution["conflict"] else "",
        "late": "the outcome was observed after the command expired" if execution["late"] else "",
    }
    return ((name, value) for name, value in facts.items() if value not in ("", None, []))


def _undoable(execution: Mapping[str, Any]) -> str:
    return "yes" if execution["undoable"] else f"no: {execution['why_not_undoable']}"


def _undo(undo: Mapping[str, Any]) -> str:
    """Which, by whom, and how it ended."""
    ended = f"{undo['outcome']} {undo['ended_at']}" if undo["outcome"] else undo["stage"]
    return f"{undo['id']}, requested by {undo['actor']}: {ended}"


def _pairs(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in values.items())


def _span(microseconds: int | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1000:.1f} ms"


_COMMANDS: Final[tuple[tuple[str, str, Callable[..., None]], ...]] = (
    ("History", "show", show_one),
    ("History", "contained", contained),
    ("History", "events", events),
    ("Fleet", "actions", actions),
    ("Fleet", "health", health),
)
