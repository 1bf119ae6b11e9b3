"""docs/settings.md: every setting of every worker, generated from the settings' own types and docstrings.

Called by tests.documents. Must never repeat a default or a bound by hand.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workers import settings
from workers.actions import CATALOGUE
from workers.wiring.actions import node_settings

WORKERS: Final[Sequence[tuple[str, type[BaseModel]]]] = (
    ("Every worker", settings.WorkerSettings),
    ("node", node_settings()),
    ("responder", settings.ResponderSettings),
    ("dispatcher", settings.DispatcherSettings),
    ("projector", settings.ProjectorSettings),
    ("gateway", settings.GatewaySettings),
    ("An operator's commands", settings.ClusterSettings),
)

NAMES: Final = frozenset(action.name for action in CATALOGUE)

_ACTIONS: Final = "features.respond.response_actions."
_NEEDED, _NEEDED_WITHIN = "**needed**", "needed in this section"

_HEAD = """\
# The settings

Generated from the settings by `make docs`; do not edit. Each worker takes one YAML file (`--config FILE`), which is
read once, at start. An unknown or repeated key stops the worker with one line that names it. `deploy/compose/` has a
complete file for each worker.

"""


def settings_document() -> str:
    """The whole document."""
    common = set(settings.WorkerSettings.model_fields)
    parts = []
    for name, kind in WORKERS:
        own = [row for row in rows(kind) if name == "Every worker" or row[0].partition(".")[0] not in common]
        if kind is settings.ClusterSettings:
            own = [row for row in rows(kind) if not row[0].startswith("kafka.")]
        parts.append(f"## {name}\n\n{_table(own)}")
    return _HEAD + "\n".join(parts)


Row: TypeAlias = tuple[str, str, str, str]
"""Key, type, default and meaning."""


def rows(kind: type[BaseModel]) -> Iterator[Row]:
    """Every setting; what all actions have in common once, as ``ACTION``."""
    common: dict[tuple[str, ...], list[Row]] = {}
    for row in _rows(kind, "", None):
        action, _, key = row[0].removeprefix(_ACTIONS).partition(".")
        if row[0].startswith(_ACTIONS) and action in NAMES:
            common.setdefault((key, *row[1:]), []).append(row)
        else:
            yield row
    for (key, *rest), same in sorted(common.items()):
        if len(same) == len(NAMES):
            yield (f"{_ACTIONS}ACTION.{key}", *rest)  # type: ignore[misc]
        else:
            yield from same


def _rows(kind: type[BaseModel], prefix: str, made: BaseModel | None) -> Iterator[Row]:
    for name, field in kind.model_fields.items():
        section = settings.section_of(field.annotation)
        default = getattr(made, name) if made is not None else field.get_default(call_default_factory=True)
        if section is not None:
            needed = type(None) not in typing.get_args(field.annotation)
            inner = default if isinstance(default, BaseModel) else None
            for row in _rows(section, f"{prefix}{name}.", inner):
                yield row if needed else (row[0], row[1], row[2].replace(_NEEDED, _NEEDED_WITHIN), row[3])
        else:
            yield f"{prefix}{name}", _type(field), _default(default), _meaning(field)


def _type(field: FieldInfo) -> str:
    bounds = {name: value for each in field.metadata for name in ("gt", "ge", "le") if (value := _bound(each, name))}
    words = _words(field.annotation)
    low, high = bounds.get("gt", bounds.get("ge")), bounds.get("le")
    if low is not None and high is not None:
        return f"{words}, {'above ' if 'gt' in bounds else ''}{low} to {high}"
    return f"{words}, at least {low}" if low is not None else words


def _bound(constraint: Any, name: str) -> str | None:
    value = getattr(constraint, name, None)
    return None if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _words(annotation: Any) -> str:
    """A type as a person who writes YAML calls it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" if each != "" else "empty" for each in arguments)
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_words(each) for each in arguments)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"{_words(arguments[0])}: {_words(arguments[1])}"
    names = {str: "text", int: "number", float: "number", bool: "`true` or `false`", Path: "path", type(None): "`null`"}
    return names[annotation]


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return _NEEDED
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"`{name}: {each}`" for name, each in value.items()) or "empty"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value) or "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "empty"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")


def _table(rows: Sequence[Row]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {default} | {meaning} |" for key, kind, default, meaning in rows]
    return "\n".join(lines) + "\n"
