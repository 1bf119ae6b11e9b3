"""``douse topics``, ``douse schemas`` and ``douse keys``: what travels, how it is written, and who is trusted.

Called by the frame; calls bootstrap. Asks no broker; makes nothing but a new key directory.
"""

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from workers.cli.client import DataOption
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, show, show_document
from workers.domain.ids import NodeId, is_node_id
from workers.wiring import catalogues

_NODE: Final = re.compile(r"([a-z0-9][a-z0-9._-]{0,62})=([0-9a-f]{32})", re.ASCII)
_DAY_NS: Final = 86_400_000_000_000

topics = typer.Typer(name="topics", help="The topics, as data.", no_args_is_help=True)
schemas = typer.Typer(name="schemas", help="The schemas of everything that travels.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="Keys: make them, see whom they vouch for.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the three groups."""
    for group in (topics, schemas, keys):
        app.add_typer(group, rich_help_panel="Log")


@topics.command("list")
def list_topics(output: OutputOption = Output.TABLE) -> None:
    """Every topic: its key, what is in it, who writes and reads it, how long it stays."""
    rows: list[dict[str, Any]] = [
        {
            "name": topic.name,
            "key": topic.key.value,
            "value": list(topic.records),
            "format": topic.format.value,
            "signed": topic.signed,
            "partitions": topic.partitions,
            "producers": [each.value for each in topic.producers],
            "consumers": [each.value for each in topic.consumers],
            "retention_s": topic.retention_s,
            "config": dict(topic.kafka_config()),
            "summary": topic.summary,
        }
        for topic in catalogues.topic_catalogue()
    ]
    show(rows, output, columns=("name", "key", "value", "signed", "partitions", "producers", "consumers"))


@topics.command()
def readme() -> None:
    """The table in topics/README.md, ACLs included."""
    typer.echo(catalogues.topic_table(), nl=False)


@topics.command()
def asyncapi() -> None:
    """The AsyncAPI 3 document of all topics, records and who sends them, as JSON."""
    typer.echo(json.dumps(catalogues.asyncapi(), indent=2, ensure_ascii=False))


@schemas.command()
def check() -> None:
    """Whether every version of every record can be read by every other, both ways; exit 1 when not."""
    faults, compared = catalogues.schema_faults()
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(Exit.FAILED)
    typer.echo(f"{compared} released schema(s) compared both ways: no fault found")


@keys.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory.", metavar="DIR")],
    nodes: Annotated[
        list[str] | None, typer.Option("--node", help="A node: file name and node id.", metavar="NAME=NODE_ID")
    ] = None,
) -> None:
    """Make the operator's, the workers' and the nodes' keys, and keyset version 1 that pins them."""
    named: dict[str, NodeId] = {}
    for word in nodes or []:
        found = _NODE.fullmatch(word)
        if found is None or not is_node_id(found[2]):
            raise Failure(f"--node {word!r} is not NAME=NODE_ID, with 32 lower-case hex digits", Exit.USAGE)
        named[found[1]] = NodeId(found[2])
    keyset = catalogues.make_keys(directory.expanduser(), named)
    typer.echo(f"{directory}: {len(keyset.keys)} keys, keyset version {keyset.version}")
    typer.echo("move operator.key to a safe place: only changes need it, no worker does")


@keys.command("show")
def show_keys(
    keyset: Annotated[
        Path | None, typer.Option("--keyset", help="A keyset file; else that of --data.", metavar="FILE")
    ] = None,
    data: DataOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Who is trusted with what, and until when; exit 1 when the keyset has expired."""
    path = keyset or (data if data is not None else DEFAULT_DATA) / "keys" / "keyset.json"
    known = catalogues.known_keys(path.expanduser())
    rows = [
        {"key_id": key.key_id, "role": key.role.value, "owner": key.owner, "revoked": key.revoked}
        for key in sorted(known.keys.values(), key=lambda key: (key.role, key.owner))
    ]
    left = (known.expires_at_ns - time.time_ns()) // _DAY_NS
    if output is Output.TABLE:
        typer.echo(f"version {known.version}, {max(left, 0)} days left, {known.threshold} operator(s) sign a change")
        show(rows, output, columns=("key_id", "role", "owner", "revoked"))
    else:
        document = {"version": known.version, "expires_at_ns": known.expires_at_ns, "threshold": known.threshold}
        show_document(document | {"keys": rows}, output)
    if left < 0:
        raise typer.Exit(Exit.FAILED)
