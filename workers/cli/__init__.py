"""The command line: arguments, tables and exit codes.

Called by the `douse` script and `python -m workers`. Calls bootstrap for a worker of its own and HTTP for everything
else; must never reach into a worker.
"""

import sys
from typing import Annotated

import typer

from workers import __version__
from workers.cli import demo, doctor, roles, rules, up
from workers.cli.exits import Exit
from workers.core.errors import ConfigError, WorkerError

app = typer.Typer(
    name="douse",
    help="Puts out what a runtime detection found: on the node where it happened, exactly once, provably.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
up.register(app)
demo.register(app)
roles.register(app)
rules.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"douse {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What every command takes; ``--debug`` is read in ``main``, because an error ends the command that knew it."""


def main() -> None:
    """Entry point of ``douse``. Raises SystemExit with a code of ``cli.exits``."""
    try:
        app()
    except ConfigError as error:
        _say(error, Exit.USAGE)
    except WorkerError as error:
        _say(error, Exit.FAILED)


def _say(error: WorkerError, exit_code: Exit) -> None:
    if "--debug" in sys.argv:
        raise error
    for line in str(error).splitlines():
        print(f"douse: {line}", file=sys.stderr)  # noqa: T201
    raise SystemExit(exit_code)
