"""``douse context list|use|add|remove|current``: which gateways this user knows, and which of them is used.

Changes the contexts file, which only its owner may read, and calls no gateway. ``context`` decides which one a command
uses. Never prints a token.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from workers.cli.client import ContextOption
from workers.cli.context import (
    LOCAL,
    Context,
    Contexts,
    checked_name,
    checked_url,
    contexts_file,
    find_context,
    local_file,
    read_contexts,
)
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, print_rows
from workers.system import yaml_files

_COLUMNS: Final = ("current", "name", "url", "ca")
_LONGEST_TOKEN: Final = 4096

NameArgument: TypeAlias = Annotated[str, typer.Argument(help="The context's name.", metavar="NAME")]

commands = typer.Typer(name="context", help="Choose the gateway that commands use.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``douse context``."""
    app.add_typer(commands, rich_help_panel="Fleet")


@commands.command("list")
def list_contexts(output: OutputOption = Output.TABLE) -> None:
    """All contexts; `local` is what `douse up` wrote on this machine."""
    contexts = read_contexts()
    rows = [_row(each, contexts) for _, each in sorted(contexts.known.items())]
    if local_file().exists():
        rows.insert(0, _row(find_context(name=LOCAL), contexts))
    if output is Output.TABLE:
        rows = [{**row, "current": "*" if row["current"] else ""} for row in rows]
    print_rows(rows, output, columns=_COLUMNS)


@commands.command()
def current(named: ContextOption = None, output: OutputOption = Output.TABLE) -> None:
    """The context that a command would use now, and what decides it."""
    context = find_context(name=named)
    row = {"name": context.name, "url": context.url, "decided_by": context.decided_by}
    print_rows([row], output, columns=("name", "url", "decided_by"))


@commands.command()
def use(name: NameArgument) -> None:
    """Make a context the current one."""
    with _changing() as contexts:
        if name != LOCAL and name not in contexts.known:
            raise Failure(f"there is no context {name!r}; `douse context list` shows all", Exit.NOT_FOUND)
        _write(replace(contexts, current="" if name == LOCAL else name))
    typer.echo(f"current context: {name}")
    if overriding := [each for each in ("DOUSE_CONTEXT", "DOUSE_URL", "DOUSE_TOKEN") if each in os.environ]:
        typer.echo(f"note: {', '.join(overriding)} in the environment decides before it", err=True)


@commands.command()
def add(
    name: NameArgument,
    url: Annotated[str, typer.Option("--url", help="The gateway's URL.")],
    token_file: Annotated[
        str,
        typer.Option(
            "--token-file", help="A file with the token, - for standard input. Default: asked for.", metavar="FILE"
        ),
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", help="The authority of the gateway's certificate (PEM). Default: the system's.", metavar="FILE"
        ),
    ] = None,
    replacing: Annotated[bool, typer.Option("--replace", help="Replace a context of this name.")] = False,
) -> None:
    """Add a gateway and the token for it; `douse context use` makes it the current one."""
    if ca is not None and not ca.is_file():
        raise Failure(f"--ca {ca}: no such file", Exit.USAGE)
    added = Context(
        checked_url(url), "", name=checked_name(name), ca=str(ca.expanduser().absolute()) if ca is not None else ""
    )
    with _changing() as contexts:
        if name in contexts.known and not replacing:
            raise Failure(f"there is a context {name!r} already; --replace replaces it", Exit.USAGE)
        added = replace(added, token=_token(token_file))
        _write(replace(contexts, known={**contexts.known, name: added}))
    typer.echo(f"added {added.label}; `douse context use {name}` makes it the current one")
    if added.url.startswith("http:"):
        typer.echo("note: http:// sends the token unencrypted", err=True)


@commands.command()
def remove(name: NameArgument) -> None:
    """Remove a context and its token; not the current one."""
    with _changing() as contexts:
        if name not in contexts.known:
            raise Failure(f"there is no context {name!r} to remove", Exit.NOT_FOUND)
        if name == contexts.current:
            raise Failure(f"{name} is the current context; `douse context use` another one first", Exit.USAGE)
        _write(replace(contexts, known={each: known for each, known in contexts.known.items() if each != name}))
    typer.echo(f"removed {name}")


def _row(context: Context, contexts: Contexts) -> dict[str, Any]:
    is_current = context.name == (contexts.current or LOCAL)
    return {"current": is_current, "name": context.name, "url": context.url, "ca": context.ca}


@contextmanager
def _changing() -> Iterator[Contexts]:
    """What the file has, while no other command changes it."""
    directory = contexts_file().parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"{directory}: cannot be used: {error.strerror}", Exit.USAGE) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read_contexts()
    finally:
        os.close(lock)


def _write(contexts: Contexts) -> None:
    known = {
        name: {"url": each.url, "token": each.token} | ({"ca": each.ca} if each.ca else {})
        for name, each in sorted(contexts.known.items())
    }
    try:
        yaml_files.write(contexts_file(), {"current": contexts.current, "contexts": known})
    except OSError as error:
        raise Failure(f"{contexts_file()}: cannot be written: {error.strerror}", Exit.USAGE) from None


def _token(file: str) -> str:
    """From a file, or typed without echo: an argument would be in the list of processes and in the shell's history."""
    if file:
        try:
            with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
                token = source.read(_LONGEST_TOKEN + 1).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"--token-file {file}: cannot be read: {error}", Exit.USAGE) from None
    elif sys.stdin.isatty():
        token = str(typer.prompt("token", hide_input=True, err=True)).strip()
    else:
        raise Failure("give --token-file FILE, or - for standard input", Exit.USAGE)
    if not token or len(token) > _LONGEST_TOKEN or not token.isprintable():
        raise Failure("the token must be one line of printable characters", Exit.USAGE)
    return token
