"""Records of ``domain`` to the dictionaries that Avro writes, and back.

Called by the codec alone. Everything follows from the dataclasses' own field types; what differs on the wire is here,
one hook each: the target's union, flat values, headers, and 64-bit numbers without a sign.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from workers.domain.command import ActionCommand
from workers.domain.event import ContainerRef, RuntimeEvent
from workers.domain.log.record import Headers
from workers.domain.log.topology import Topology
from workers.domain.node_state import DeadLetter, NodeState
from workers.domain.outcome import NOTHING, PostCondition, Values
from workers.domain.request import ActionRequest
from workers.domain.result import ActionResult
from workers.domain.target import KINDS, ReviewedFile, Target
from workers.domain.targets.custody import Custody
from workers.domain.targets.file import FileIdentity
from workers.domain.targets.manifest import Manifest
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import Envelope

T = TypeVar("T")

_NAMESPACE: Final = "douse.v1"

RECORDS: Final[Mapping[type, str]] = {
    cls: f"{_NAMESPACE}.{cls.__name__}"
    for cls in (
        ActionCommand,
        ActionRequest,
        ActionResult,
        AuditRecord,
        Custody,
        DeadLetter,
        Envelope,
        Manifest,
        NodeState,
        RuntimeEvent,
        Topology,
    )
}
"""Every class that travels, and its schema's full name."""

_TARGETS: Final[Mapping[str, type[Target]]] = {kind.kind: kind for kind in KINDS}
"""The nullable fields of the record ``Target``, and the class that each one holds."""

_UNSIGNED: Final = 1 << 64

_Named: TypeAlias = tuple[str, dict[str, Any]]
"""Names for fastavro which branch of a union is meant."""


def to_wire(record: Any) -> dict[str, Any]:
    """The dictionary of a record."""
    wire: dict[str, Any] = _CONVERTER.unstructure(record)
    return wire


def from_wire(wire: Mapping[str, Any], as_: type[T]) -> T:
    """The record of a dictionary that the schema has already typed.

    Raises:
        ValueError: two targets at once, or a word outside one of the closed sets.
    """
    return _CONVERTER.structure(wire, as_)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for primitive in (str, int, bool, bytes):
        converter.register_structure_hook_func(_is(primitive), _as_is)
    converter.register_unstructure_hook_func(_is(Values), dict)
    converter.register_structure_hook_func(_is(Values), _values)
    converter.register_unstructure_hook_func(_is(Headers), _headers_to_wire)
    converter.register_structure_hook_func(_is(Headers), _headers)
    for record in (ActionRequest, ContainerRef, PostCondition, ReviewedFile):
        converter.register_unstructure_hook_func(_is(record | None), partial(_optional_to_wire, converter))
    for optional in (Target, Target | None):
        converter.register_unstructure_hook_func(_is(optional), lambda target: _target_to_wire(converter, target))
        converter.register_structure_hook_func(_is(optional), lambda wire, _: _target(converter, wire))
    for identity in (ReviewedFile, FileIdentity):
        converter.register_unstructure_hook(
            identity,
            make_dict_unstructure_fn(
                identity,
                converter,
                device=override(unstruct_hook=_signed),
                inode=override(unstruct_hook=_signed),
            ),
        )
        converter.register_structure_hook(
            identity,
            make_dict_structure_fn(
                identity,
                converter,
                device=override(struct_hook=_unsigned),
                inode=override(struct_hook=_unsigned),
            ),
        )
    return converter


def _is(wanted: Any) -> Callable[[Any], bool]:
    return lambda found: bool(found == wanted)


def _as_is(value: Any, _: Any) -> Any:
    return value


def _values(wire: Mapping[str, Any], _: Any) -> Values:
    return MappingProxyType(dict(wire)) if wire else NOTHING


def _headers_to_wire(headers: Headers) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in headers]


def _headers(wire: Any, _: Any) -> Headers:
    return tuple((header["name"], header["value"]) for header in wire)


def _optional_to_wire(converter: cattrs.Converter, record: Any) -> _Named | None:
    """Named, because fastavro would otherwise try a whole record on each branch of the union before it writes it."""
    return None if record is None else (f"{_NAMESPACE}.{type(record).__name__}", converter.unstructure(record))


def _target_to_wire(converter: cattrs.Converter, target: Target | None) -> _Named | None:
    if target is None:
        return None
    return f"{_NAMESPACE}.Target", {target.kind: _optional_to_wire(converter, target)}


def _target(converter: cattrs.Converter, wire: Mapping[str, Any] | None) -> Target | None:
    """None also for a kind of target that a newer version added: the action it belongs to is unknown here too."""
    found = [(name, value) for name, value in (wire or {}).items() if value is not None]
    if len(found) > 1:
        raise ValueError(f"a target is one thing, not {' and '.join(name for name, _ in found)}")
    target: Target | None = None
    for name, value in found:
        target = converter.structure(value, _TARGETS[name])
    return target


def _signed(value: int) -> int:
    return value - _UNSIGNED if value >= _UNSIGNED >> 1 else value


def _unsigned(value: int, _: Any) -> int:
    return value % _UNSIGNED


_CONVERTER: Final = _converter()
