"""The command line: arguments, tables and exit codes.

Called by the `douse` script and `python -m workers`. Calls bootstrap for a worker of its own and HTTP for everything
else; must never reach into a worker.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from workers import __version__
from workers.cli import asking, demo, doctor, handing, looking, roles, rules, up
from workers.cli.exits import LEGEND, Exit, Failure
from workers.core.errors import ConfigError, TransientFailure, WorkerError

app = typer.Typer(
    name="douse",
    help="Puts out what a runtime detection found: on the node where it happened, exactly once, provably.",
    epilog=LEGEND,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
up.register(app)
demo.register(app)
asking.register(app)
looking.register(app)
handing.register(app)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``douse``; ``arguments`` are the process's own unless given. Raises SystemExit with a code of
    ``cli.exits``."""
    try:
        app(args=arguments)
    except Failure as error:
        _say(error, error.exit_code)
    except ConfigError as error:
        _say(error, Exit.USAGE)
    except TransientFailure as error:
        _say(error, Exit.UNREACHABLE)
    except WorkerError as error:
        _say(error, Exit.FAILED)


def _say(error: Exception, exit_code: Exit) -> None:
    if "--debug" in sys.argv:
        raise error
    for line in str(error).splitlines():
        print(f"douse: {line}", file=sys.stderr)  # noqa: T201
    raise SystemExit(exit_code)
