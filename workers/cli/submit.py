"""``douse event submit``: hand in a detector's events.

Called by the frame; calls the gateway. The file goes as it is: what is wrong with which record is the gateway's word.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from workers.cli.client import DataOption, connected
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, show

_LARGEST: Final = 8 << 20
"""Bytes: what the gateway takes at once."""

commands = typer.Typer(name="event", help="Events: hand one in.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``douse event``."""
    app.add_typer(commands, rich_help_panel="History")


@commands.callback()
def _group() -> None:
    """Keeps ``submit`` a word of its own while it is the only one."""


@commands.command()
def submit(
    file: Annotated[str, typer.Argument(help="Falco JSON: one alert, a list, or one a line; - is standard input.")],
    data: DataOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand in events as a detector would; answered once the log has all of them."""
    body = _content(file)
    with connected(data) as client:
        accepted = client.post("events", content=body, headers={"Content-Type": "application/json"})["data"]
    show(accepted, output, columns=("event_id",))


def _content(file: str) -> bytes:
    try:
        content = sys.stdin.buffer.read(_LARGEST + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"{file}: cannot be read: {error.strerror}", Exit.USAGE) from None
    if len(content) > _LARGEST:
        raise Failure(f"{file}: more than {_LARGEST} bytes; hand it in in parts", Exit.USAGE)
    return content
