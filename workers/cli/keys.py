"""``douse keys add``, ``renew``, ``rotate``, ``revoke`` and ``publish``: change a key directory, and have it followed.

Run on the machine that holds operator.key; calls wiring. Every change is a new keyset version, signed by the operator.
``publish`` sends the versions to the workers, which take them up while they run; a new private key is copied by hand.
"""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.domain.ids import KeyId, NodeId, is_node_id
from workers.domain.trust.keyset import KeyRole, Keyset
from workers.wiring import catalogues, keysets

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)

NodeArgument: TypeAlias = Annotated[str, typer.Argument(help="The node id.", metavar="NODE_ID")]
PublishOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--publish", help="Publish it too: a settings file whose kafka: section names the cluster.", metavar="FILE"
    ),
]
DirectoryOption: TypeAlias = Annotated[
    Path, typer.Option("--keys", help="The key directory, with operator.key.", metavar="DIR")
]
_DIRECTORY: Final = DEFAULT_DATA / "keys"


def register(keys: typer.Typer) -> None:
    """Add them to ``douse keys``."""
    for command in (add, renew, rotate, revoke, publish):
        keys.command()(command)


def add(
    name: Annotated[str, typer.Argument(help="File name of the new key, without .key.", metavar="NAME")],
    role: Annotated[KeyRole, typer.Option("--role", help="What the key may sign.")] = KeyRole.NODE,
    node: Annotated[str, typer.Option("--node", help="The node id of a node's key.", metavar="NODE_ID")] = "",
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Make a key for a further node, worker or operator, and list it."""
    if (role is KeyRole.NODE) != bool(node):
        raise Failure("give --node NODE_ID for a node's key, and for no other", Exit.USAGE)
    _print(catalogues.add_key(directory.expanduser(), _named(name), role, NodeId(node)), f"added {name}.key")


def renew(
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long the keyset is valid from now.")] = 365,
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Keep all keys, and move the expiry of the keyset."""
    _print(catalogues.renew_keys(directory.expanduser(), days), f"valid for {days} days")


def rotate(
    name: Annotated[str, typer.Argument(help="File name of the key, without .key.", metavar="NAME")],
    overlap: Annotated[
        int, typer.Option("--overlap", min=0, max=720, help="Hours that the old key still counts, to restart workers.")
    ] = 24,
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Replace a key by a new one. What the old one signed until then stays valid as evidence."""
    keyset = catalogues.rotate_key(directory.expanduser(), _named(name), overlap * 3600)
    _print(keyset, f"{name}.key is a new key; the old one counts for {overlap} hours more")


def revoke(
    key_id: Annotated[str, typer.Argument(help="The key id, from `douse keys show`.", metavar="KEY_ID")],
    since: Annotated[
        str,
        typer.Option(
            "--since", help="Since when (RFC 3339); what it signed before stays valid as evidence. Default: now."
        ),
    ] = "",
    entirely: Annotated[bool, typer.Option("--entirely", help="Nothing that it ever signed counts any more.")] = False,
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """No longer trust a key."""
    if since and entirely:
        raise Failure("give --since or --entirely, not both", Exit.USAGE)
    since_ns = 0 if entirely else _moment_ns(since)
    _print(catalogues.revoke_key(directory.expanduser(), KeyId(key_id), since_ns), f"revoked {key_id}")


def publish(
    config: Annotated[
        Path, typer.Option("--config", help="A settings file whose kafka: section names the cluster.", metavar="FILE")
    ],
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Send every version of the keyset that the topic lacks; workers take them up while they run."""
    sent = keysets.publish_keysets(config, directory.expanduser())
    versions = ", ".join(map(str, sent))
    typer.echo(f"published keyset version {versions}" if sent else "every version is published already")


def register_nodes(nodes: typer.Typer) -> None:
    """Add ``retire`` and ``revoke`` to ``douse nodes``: both are keyset changes, signed by the operator."""
    nodes.command()(retire)
    nodes.command("revoke")(revoke_node)


def retire(
    node: NodeArgument,
    within: Annotated[
        int, typer.Option("--within", min=0, max=720, help="Hours until its key no longer counts, to finish its work.")
    ] = 1,
    publish_to: PublishOption = None,
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """Let a node leave in good order: it gets nothing new, and its reports count a while longer."""
    _leave(node, _moment_ns("") + within * 3600 * 1_000_000_000, publish_to, directory, f"retired {node}")


def revoke_node(
    node: NodeArgument,
    since: Annotated[
        str, typer.Option("--since", help="Since when (RFC 3339); what it signed before stays valid. Default: now.")
    ] = "",
    publish_to: PublishOption = None,
    directory: DirectoryOption = _DIRECTORY,
) -> None:
    """No longer believe a node. It comes back with a new key only (`douse keys add`)."""
    _leave(node, _moment_ns(since), publish_to, directory, f"revoked {node}")


def _leave(node: str, since_ns: int, config: Path | None, directory: Path, what: str) -> None:
    if not is_node_id(node):
        raise Failure(f"{node!r} is no node id (32 lower-case hex digits); `douse nodes` lists them", Exit.USAGE)
    _print(catalogues.remove_node(directory.expanduser(), NodeId(node), since_ns), what)
    if config is not None:
        publish(config, directory)


def _named(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise Failure(f"{name!r} is no name of a key: lower-case letters, digits, dots and dashes", Exit.USAGE)
    return name


def _moment_ns(text: str) -> int:
    if not text:
        return (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000  # a keyset has whole seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.timestamp() < 1:
        raise Failure(f"--since {text!r} is no time with a zone, such as 2026-01-31T12:00:00Z", Exit.USAGE)
    return int(moment.timestamp()) * 1_000_000_000


def _print(keyset: Keyset, what: str) -> None:
    typer.echo(f"{what}; keyset version {keyset.version}: send it to the workers with `douse keys publish`")
