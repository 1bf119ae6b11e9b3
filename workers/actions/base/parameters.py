"""Parameters and outputs: how an action describes them, and how wire values become typed parameters.

Used by ``Action`` and by whatever prints the catalogue (API, CLI, docs). Pure.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_type_hints

from workers.domain.errors import CommandRejected
from workers.domain.outcome import Scalar, Values


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One parameter or output, typed and described."""

    name: str
    type: str
    """``string``, ``integer`` or ``boolean``."""
    description: str
    required: bool = False
    default: Scalar | None = None
    minimum: int | None = None
    maximum: int | None = None
    """Largest integer, or longest string in characters."""


@dataclass(frozen=True, slots=True)
class NoParameters:
    """For actions that take none."""


def parameter(description: str, *, default: Any = dataclasses.MISSING, minimum: int = 0, maximum: int = 512) -> Any:
    """A field of an action's parameter dataclass, with its description and its bounds."""
    return field(default=default, metadata={"description": description, "minimum": minimum, "maximum": maximum})


@functools.cache
def specs_of(parameters: type) -> tuple[FieldSpec, ...]:
    """The parameters of a dataclass that was made with ``parameter()``."""
    types = get_type_hints(parameters)  # also where annotations are text
    return tuple(_spec(declared, types[declared.name]) for declared in dataclasses.fields(parameters))


def parse_parameters(action: str, parameters: type, values: Values) -> Any:
    """Typed parameters out of wire values; integers may come as text, as published clients send them.

    Raises:
        CommandRejected: unknown, missing or ill-typed parameter (``invalid_parameters``).
    """
    specs = {spec.name: spec for spec in specs_of(parameters)}
    unknown = sorted(set(values) - set(specs))
    if unknown:
        known = ", ".join(specs) or "none"
        raise CommandRejected(f"{action} has no parameter {unknown[0]!r}; it takes: {known}", code="invalid_parameters")
    missing = [spec.name for spec in specs.values() if spec.required and spec.name not in values]
    if missing:
        raise CommandRejected(f"{action} needs parameter {missing[0]!r}", code="invalid_parameters")
    return parameters(**{name: _typed(action, specs[name], value) for name, value in values.items()})


_TYPES: Mapping[type, str] = {str: "string", int: "integer", bool: "boolean"}


def _spec(declared: "dataclasses.Field[Any]", kind: type) -> FieldSpec:
    required = declared.default is dataclasses.MISSING
    return FieldSpec(
        name=declared.name,
        type=_TYPES[kind],
        description=declared.metadata["description"],
        required=required,
        default=None if required else cast(Scalar, declared.default),
        minimum=declared.metadata["minimum"],
        maximum=declared.metadata["maximum"],
    )


def _typed(action: str, spec: FieldSpec, value: Scalar) -> Scalar:
    refusal = CommandRejected(
        f"{action}: parameter {spec.name!r} must be {spec.type} ({_bounds(spec)}), not {value!r}",
        code="invalid_parameters",
    )
    match spec.type, value:
        case "boolean", bool():
            return value
        case "boolean", "true" | "false":
            return value == "true"
        case "string", str() if len(value) <= (spec.maximum or 0):
            return value
        case "integer", int() | str() if not isinstance(value, bool):
            try:
                number = int(value)
            except ValueError:
                raise refusal from None
            if (spec.minimum or 0) <= number <= (spec.maximum or 0):
                return number
    raise refusal


def _bounds(spec: FieldSpec) -> str:
    match spec.type:
        case "boolean":
            return "true or false"
        case "string":
            return f"at most {spec.maximum} characters"
        case _:
            return f"{spec.minimum} to {spec.maximum}"
