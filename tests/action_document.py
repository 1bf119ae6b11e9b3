"""docs/actions.md: the catalogue of actions as a document, generated from what the actions declare.

Called by tests.documents. Must never know an action by name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from workers.actions import CATALOGUE
from workers.actions.base import AnyAction, FieldSpec
from workers.gateway.http.compatible.vocabulary import parameters_of

_HEAD = """\
# The actions

Generated from the actions by `make docs`; do not edit. Every action ends in exactly one outcome, with a stable code
`<action>_<success|error>_<reason>`.

"""

_SWITCH = "To disable it on a node, set `features.respond.response_actions.{}.trigger: NONE`."


def actions_document(actions: Sequence[AnyAction] = CATALOGUE) -> str:
    """The whole document."""
    overview = _table(
        ("action", "what it does", "target", "undone by", "permission", "privileges"),
        (
            (
                f"[`{action.name}`](#{action.name})",
                action.summary,
                _target(action),
                f"`{action.reversible_by}`" if action.reversible_by else "nothing",
                f"`{action.permission.value}.exec`",
                _privileges(action),
            )
            for action in actions
        ),
    )
    return _HEAD + overview + "".join(_section(action) for action in actions)


def _compatible(action: AnyAction) -> str:
    if action.undo_only:
        return f"`{action.api_type}`, by `DELETE` on the execution that it undoes"
    needed = ", ".join(f"`{spec.name}`" for spec in parameters_of(action) if spec.required)
    return f"`{action.api_type}` with {needed}"


def _section(action: AnyAction) -> str:
    lines = [
        f"\n## {action.name}\n",
        f"{action.summary}. {_SWITCH.format(action.name)}\n",
        _table(
            ("", ""),
            (
                ("lane", action.lane.value),
                ("must start within", f"{action.ttl_s} s of the request, unless the request sets another limit"),
                ("may run for", f"{action.timeout_s} s"),
                ("privileges (without `CAP_`)", _privileges(action)),
                ("on the compatible API", _compatible(action)),
                ("mounts", ", ".join(f"`{mount}`" for mount in action.mounts) or "none"),
            ),
        ),
        "\n**What it costs**\n",
        "\n".join(f"* {drawback}" for drawback in action.drawbacks) + "\n",
        "\n**Parameters**\n",
        _fields(action.parameter_specs(), "default"),
        "\n**Outputs**\n",
        _fields(action.outputs, ""),
        "\n**Example**\n",
        "```json\n" + json.dumps(_example(action), indent=2, ensure_ascii=False) + "\n```\n",
    ]
    return "\n".join(lines)


def _fields(specs: Sequence[FieldSpec], last: str) -> str:
    if not specs:
        return "None.\n"
    heads = ("name", "type", "what it is", last) if last else ("name", "type", "what it is")
    rows = [(f"`{spec.name}`", spec.type, spec.description, _default(spec)) for spec in specs]
    return _table(heads, [row[: len(heads)] for row in rows])


def _default(spec: FieldSpec) -> str:
    return "required" if spec.required else f"`{json.dumps(spec.default)}`"


def _example(action: AnyAction) -> dict[str, Any]:
    target = dataclasses.asdict(action.example["target"])
    return {"action": action.name, "target": _plain(target), "parameters": dict(action.example["parameters"])}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner not in (None, "", ())}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _target(action: AnyAction) -> str:
    return action.target.kind


def _privileges(action: AnyAction) -> str:
    return ", ".join(f"`{name}`" for name in action.privileges) or "none"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruled = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(row) + " |\n" for row in ruled)
