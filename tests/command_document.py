"""docs/commands.md: the command line, generated from the commands themselves, with what its exit codes mean.

Called by tests.documents.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Final

import typer
from typer.cli import get_docs_for_click

from workers.cli import app, exits
from workers.cli.exits import LEGEND, Exit
from workers.cli.run import SUCCESS

_HEAD: Final = """\
# The command line

Generated from the commands by `make docs`; do not edit. Errors are one line each on standard error; `--debug`, before
the command, adds the traceback.

"""

_WAITED: Final = """\
With `--wait`, `run` and `undo` end with 0 for the outcomes {success}, with 4 for `REJECTED`, with 5 for a target that
was never there, and with 1 for any other. Without it, 0 means that the request was taken in.

"""


def commands_document() -> str:
    """The whole document."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="douse"), name="douse")
    commands = text[text.index("**Usage**") :].replace(f"\n{LEGEND}\n", "")
    success = ", ".join(f"`{outcome}`" for outcome in sorted(SUCCESS))
    return (
        _HEAD
        + "## Exit codes\n\n"
        + _exit_codes()
        + "\n"
        + _WAITED.format(success=success)
        + "## douse\n\n"
        + commands.rstrip()
        + "\n"
    )


def _exit_codes() -> str:
    meanings = dict(_docstrings())
    lines = ["| code | name | meaning |", "|---|---|---|"]
    lines += [f"| {each.value} | `{each.name}` | {meanings[each.name]} |" for each in Exit]
    return "\n".join(lines) + "\n"


def _docstrings() -> Iterator[tuple[str, str]]:
    """Each code's docstring, which an enumeration does not keep."""
    (kind,) = (
        each
        for each in ast.parse(inspect.getsource(exits)).body
        if isinstance(each, ast.ClassDef) and each.name == "Exit"
    )
    for field, doc in zip(kind.body, kind.body[1:], strict=False):
        if isinstance(field, ast.Assign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            (name,) = field.targets
            assert isinstance(name, ast.Name)
            yield name.id, " ".join(str(doc.value.value).split())
