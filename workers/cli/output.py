"""Rows as a table, JSON or YAML: what every listing's ``--output`` means.

Called by the commands. A table is for people and may cut what is long; JSON and YAML never cut.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer

from workers.system import yaml_files


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")]


def show(rows: Sequence[Mapping[str, Any]], output: Output, *, columns: Sequence[str]) -> None:
    """Print rows; ``columns`` are what a table shows of them, in this order."""
    if output is not Output.TABLE:
        show_document(list(rows), output)
        return
    # Rich costs a worker's start 30 ms, and only listings use it.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(legible(row.get(column, ""))) for column in columns))
    # In a pipe there is no width to fit: a row stays one line, so that grep and cut work.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def show_document(content: Any, output: Output) -> None:
    """Print plain data whole, as JSON or (also where a table was asked for) as YAML."""
    if output is Output.JSON:
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml_files.text_of(content), nl=False)


def legible(value: object) -> str:
    """A cell: no control characters, whatever an event or a file name holds."""
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
