"""Claims: the one conversion between an action's typed claim and the flat values that the journal keeps.

A claim is a frozen dataclass of strings, integers and booleans; the names of its fields are the keys in the journal and
on the wire, and never change. An action may declare several shapes (a process that is there, a process that has
ended); stored values are read as the first shape whose required fields they have. A field with a default is one that
older versions did not write. Used by actions and by the node worker. Pure.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

from workers.domain.errors import PermanentFailure
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.outcome import Scalar, Values
from workers.domain.target import Target

C = TypeVar("C")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Effect(Generic[C]):
    """An effect that is in place: the claim it was made on, and the outputs of its report."""

    claim: C
    outputs: Values
    execution_id: ExecutionId = NO_EXECUTION
    """The execution that made it."""
    target: Target | None = None
    """What its command acted on."""


def values_of(claim: Any) -> dict[str, Scalar]:
    """A claim as the journal and the wire have it."""
    return {each.name: getattr(claim, each.name) for each in dataclasses.fields(claim)}


def claim_of(shapes: Sequence[type], values: Values) -> Any:
    """The claim that a journal entry holds. Keys that this version does not know are left out.

    Raises:
        PermanentFailure: the values fit none of the shapes (``claim_unreadable``).
    """
    shape = next((each for each in shapes if _required(each) <= values.keys()), None)
    if shape is None:
        missing = ", ".join(sorted(_required(shapes[0]) - values.keys())) if shapes else "a declared claim"
        raise PermanentFailure(f"the journal's claim has no {missing}", code="claim_unreadable")
    types = _types(shape)
    known = {name: value for name, value in values.items() if name in types}
    wrong = sorted(name for name, value in known.items() if type(value) is not types[name])
    if wrong:
        raise PermanentFailure(
            f"{wrong[0]} in the journal's claim is no {types[wrong[0]].__name__}", code="claim_unreadable"
        )
    return shape(**known)


def claim_with(shape: type[W], claim: Any, **more: Scalar) -> W:
    """A claim of another shape: the fields that both have, and ``more``."""
    kind: type = shape
    shared = {name: value for name, value in values_of(claim).items() if name in _types(kind)}
    return shape(**{**shared, **more})


@functools.cache
def _types(shape: type) -> Mapping[str, type]:
    hints = get_type_hints(shape)
    return {each.name: hints[each.name] for each in dataclasses.fields(shape)}


@functools.cache
def _required(shape: type) -> frozenset[str]:
    return frozenset(each.name for each in dataclasses.fields(shape) if each.default is dataclasses.MISSING)
