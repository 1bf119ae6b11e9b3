"""Asks before something is done, on a terminal only.

Called by the commands that act, unless ``--yes`` was given. Where nobody can answer (a pipe, a job), nothing is asked.
Questions go to standard error, so that standard output stays the answer.
"""

import sys
import termios
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, TextIO, TypeAlias

import typer

from workers.cli.context import Context
from workers.cli.exits import Exit, Failure
from workers.cli.output import legible

YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]


def asks(*, yes: bool) -> bool:
    """Whether to ask: there is a terminal to ask on, and ``--yes`` was not given."""
    return not yes and sys.stdin.isatty() and _screen() is not None


def confirm(facts: Iterable[tuple[str, object]], question: str) -> None:
    """Show what is about to be done, and return if the answer is yes.

    Raises:
        Failure: any other answer, or none.
    """
    screen = _screen() or sys.stderr
    for name, value in facts:
        screen.write(f"{name:<16} {legible(value)}\n")
    screen.write(f"{legible(question)} [y/N] ")
    screen.flush()
    with suppress(termios.error):  # what was typed before the question is no answer to it
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        screen.write("\n")
    if answer.strip().lower() not in ("y", "yes"):
        raise Failure("not confirmed: nothing was done", Exit.FAILED)


def confirm_elsewhere(context: Context, what: str, *, yes: bool) -> None:
    """Ask where the gateway is not this machine's own.

    Raises:
        Failure: not confirmed.
    """
    if asks(yes=yes) and not context.is_this_machine:
        confirm([context_fact(context)], f"{what}?")


def context_fact(context: Context) -> tuple[str, str]:
    """The line that names the gateway."""
    return "context", context.label + ("" if context.is_this_machine else ", NOT THIS MACHINE")


def _screen() -> TextIO | None:
    return next((each for each in (sys.stderr, sys.stdout) if each.isatty()), None)
