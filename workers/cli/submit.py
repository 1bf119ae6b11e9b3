"""``douse event submit``: submit a detector's events.

Calls the gateway. The file is sent unchanged; the gateway checks every record.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from workers.cli.arguments import OnceCommand
from workers.cli.client import ContextOption, DataOption, acting, stamped
from workers.cli.confirm import YesOption, confirm_elsewhere
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, print_rows

_LARGEST: Final = 8 << 20
"""Bytes: the gateway's limit."""

commands = typer.Typer(name="event", help="Submit events.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``douse event``."""
    app.add_typer(commands, rich_help_panel="History")


@commands.callback()
def _group() -> None:
    """Makes ``submit`` a subcommand although it is the only one."""


@commands.command(cls=OnceCommand)
def submit(
    file: Annotated[
        str, typer.Argument(help="Falco JSON: one alert, a list, or one alert per line; - is standard input.")
    ],
    data: DataOption = None,
    named: ContextOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit events as a detector would; ends once the log has all of them."""
    body = _content(file)
    with acting(data, named) as client:
        confirm_elsewhere(client.context, f"submit {file}, whose events may trigger rules", yes=yes)
        accepted = client.post("events", content=body, headers={"Content-Type": "application/json"})["data"]
    print_rows([stamped(client, row) for row in accepted], output, columns=("event_id", "context"))


def _content(file: str) -> bytes:
    try:
        content = sys.stdin.buffer.read(_LARGEST + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"{file}: cannot be read: {error.strerror}", Exit.USAGE) from None
    if len(content) > _LARGEST:
        raise Failure(f"{file}: larger than {_LARGEST} bytes; submit it in parts", Exit.USAGE)
    return content
