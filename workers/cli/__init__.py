"""The command line: arguments, tables and exit codes.

Called by the `douse` script and `python -m workers`. Calls wiring to run a worker and HTTP for everything else;
must never reach into a worker.
"""

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from workers import __version__
from workers.cli import (
    catalogues,
    cluster,
    contexts,
    demo,
    doctor,
    download,
    growth,
    history,
    keys,
    rules,
    run,
    show,
    submit,
    tail,
    up,
    worker,
)
from workers.cli.exits import LEGEND, Exit, Failure
from workers.domain.errors import ConfigError, InUse, TransientFailure, WorkerError
from workers.wiring import ROLES

app = typer.Typer(
    name="douse",
    help="Respond to runtime detections: on the node where they happened, exactly once, with proof.",
    epilog=LEGEND,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
up.register(app)
demo.register(app)
run.register(app)
show.register(app)
history.register(app)
download.register(app)
submit.register(app)
tail.register(app)
cluster.register(catalogues.topics)
growth.register(catalogues.topics)
keys.register(catalogues.keys)
catalogues.register(app)
contexts.register(app)
worker.register(app)
rules.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"douse {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command; ``--debug`` is read in ``main``, because an error ends the command before that."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``douse``; ``arguments`` are the process's own unless given. Always raises SystemExit, with a code
    of ``cli.exits``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_data(given)
        code = app(args=given, standalone_mode=False)
    except Failure as error:
        raise SystemExit(_report(error, error.exit_code, given)) from None
    except InUse as error:
        raise SystemExit(_report(error, Exit.BUSY, given)) from None
    except (ConfigError, typer.TyperException) as error:
        raise SystemExit(_report(error, Exit.USAGE, given)) from None
    except TransientFailure as error:
        raise SystemExit(_report(error, Exit.UNREACHABLE, given)) from None
    except WorkerError as error:
        raise SystemExit(_report(error, Exit.FAILED, given)) from None
    except typer.Abort:
        raise SystemExit(_report(Failure("interrupted", Exit.FAILED), Exit.FAILED, given)) from None
    except BrokenPipeError:
        # The reader of the output has closed the pipe, as `head` does; the interpreter must not fail on it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(Exit.OK) from None
    except Exception as error:
        # The outermost layer: a bug is one line too, unless --debug is given.
        if given and given[0] in ROLES:
            raise
        fault = f"internal error: {type(error).__name__}: {error}; run with --debug for the traceback"
        raise SystemExit(_report(error, Exit.FAILED, given, fault)) from None
    raise SystemExit(code if isinstance(code, int) else Exit.OK)


def _check_data(arguments: Sequence[str]) -> None:
    """An unset variable of the shell must not make the present directory the data directory."""
    values = [value for option, value in itertools.pairwise(arguments) if option == "--data"]
    if "" in values or "--data=" in arguments:
        raise Failure("--data is empty: give a directory, or leave it out", Exit.USAGE)


def _report(error: Exception, exit_code: Exit, arguments: Sequence[str], message: str = "") -> Exit:
    """Print what was wrong, one line per fault; with ``--debug`` raise it."""
    if "--debug" in arguments:
        raise error
    words = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    for line in (message or words).splitlines():
        print(f"douse: {line}", file=sys.stderr)  # noqa: T201
    return exit_code
