"""``douse topics``, ``douse schemas`` and ``douse keys``: the topics, the record schemas and the keys.

Calls wiring. Needs no broker; creates nothing but a new key directory.
"""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from workers.cli.client import LocalDataOption
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, print_document, print_rows
from workers.domain.ids import NodeId, is_node_id
from workers.wiring import catalogues

_NODE: Final = re.compile(r"([a-z0-9][a-z0-9._-]{0,62})=([0-9a-f]{32})", re.ASCII)
_DAY_NS: Final = 86_400_000_000_000

topics = typer.Typer(name="topics", help="The topics of the catalogue.", no_args_is_help=True)
schemas = typer.Typer(name="schemas", help="The schemas of all records.", no_args_is_help=True)
keys = typer.Typer(name="keys", help="Make keys and show the keyset.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the three groups."""
    for group in (topics, schemas, keys):
        app.add_typer(group, rich_help_panel="Log")


@topics.command("list")
def list_topics(output: OutputOption = Output.TABLE) -> None:
    """Every topic: its key, records, producers, consumers and retention."""
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
    print_rows(rows, output, columns=("name", "key", "value", "signed", "partitions", "producers", "consumers"))


@topics.command()
def readme() -> None:
    """The table in topics/README.md, ACLs included."""
    typer.echo(catalogues.topic_table(), nl=False)


@topics.command()
def asyncapi() -> None:
    """The AsyncAPI 3 document of all topics, records and producers, as JSON."""
    typer.echo(json.dumps(catalogues.asyncapi(), indent=2, ensure_ascii=False))


@schemas.command()
def check() -> None:
    """Check that every version of every record can read every other version; exit 1 if not."""
    faults, compared = catalogues.schema_faults()
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(Exit.FAILED)
    typer.echo(f"{compared} released schema(s) compared both ways: all compatible")


@keys.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory.", metavar="DIR")],
    nodes: Annotated[
        list[str] | None, typer.Option("--node", help="A node: file name and node id.", metavar="NAME=NODE_ID")
    ] = None,
) -> None:
    """Make the keys of the operator, the workers and the nodes, and keyset version 1 with all of them."""
    named: dict[str, NodeId] = {}
    for word in nodes or []:
        found = _NODE.fullmatch(word)
        if found is None or not is_node_id(found[2]):
            raise Failure(f"--node {word!r} is not NAME=NODE_ID, with 32 lower-case hex digits", Exit.USAGE)
        named[found[1]] = NodeId(found[2])
    keyset = catalogues.make_keys(directory.expanduser(), named)
    typer.echo(f"{directory}: {len(keyset.keys)} keys, keyset version {keyset.version}")
    typer.echo("move operator.key to safe storage: only key changes need it, workers do not")


@keys.command("show")
def show_keys(
    keyset: Annotated[
        Path | None, typer.Option("--keyset", help="A keyset file. Default: the one in --data.", metavar="FILE")
    ] = None,
    data: LocalDataOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The keys of a keyset, their roles and the expiry; exit 1 if the keyset has expired."""
    path = keyset or (data if data is not None else DEFAULT_DATA) / "keys" / "keyset.json"
    known = catalogues.known_keys(path.expanduser())
    rows = [
        {
            "key_id": key.key_id,
            "role": key.role.value,
            "owner": key.owner,
            "revoked": key.revoked,
            "revoked_since": _time(key.revoked_since_ns) if key.revoked_since_ns else None,
        }
        for key in sorted(known.keys.values(), key=lambda key: (key.role, key.owner))
    ]
    left = (known.expires_at_ns - time.time_ns()) // _DAY_NS
    if output is Output.TABLE:
        typer.echo(
            f"version {known.version}, {max(left, 0)} days left, a change needs {known.threshold} operator signature(s)"
        )
        print_rows(rows, output, columns=("key_id", "role", "owner", "revoked", "revoked_since"))
    else:
        document = {"version": known.version, "expires_at_ns": known.expires_at_ns, "threshold": known.threshold}
        print_document(document | {"keys": rows}, output)
    if left < 0:
        raise typer.Exit(Exit.FAILED)


def _time(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
