"""Print rows as a table, JSON or YAML, as ``--output`` says.

Called by the commands. A table may fold long cells; JSON and YAML are always complete.
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


def print_rows(rows: Sequence[Mapping[str, Any]], output: Output, *, columns: Sequence[str]) -> None:
    """Print rows; ``columns`` are the fields that a table shows, in this order."""
    if output is not Output.TABLE:
        print_document(list(rows), output)
        return
    # Importing rich takes 30 ms, and only listings use it.
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


def print_document(content: Any, output: Output) -> None:
    """Print all of it, as JSON or (also for ``table``) as YAML."""
    if output is Output.JSON:
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml_files.text_of(content), nl=False)


def progress_text(progress: Mapping[str, Any]) -> str:
    """How far a copy or an upload is, for people."""
    done, size = progress["done"], progress["size"]
    share = f"{100 * done // size} % of {size / 1e6:.1f} MB" if size else f"{done / 1e6:.1f} MB"
    return f"{progress['step']} {share}"


def legible(value: object) -> str:
    """A cell: no control characters, whatever an event or a file name contains."""
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
