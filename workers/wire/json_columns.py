"""Dataclasses and flat values as JSON text for a stored column, and strictly back.

Called by ``store``. Pure. What is not exactly what the other direction writes is refused: every key must be there, none
may be added, and no value is converted, so a damaged column never becomes a claim or an outcome. Bytes are base64.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

import cattrs
from cattrs.gen import make_dict_structure_fn

from workers.domain.log.record import Headers
from workers.domain.outcome import Scalar, Values

T = TypeVar("T")

_WRITE: Final = json.JSONEncoder(separators=(",", ":")).encode
"""One encoder for all: making one each time costs more than encoding does."""


class JsonColumn(Generic[T]):
    """Texts of one type."""

    def __init__(self, kind: Any) -> None:
        """``kind`` is the type, which may be an alias or a union with None."""
        self._kind = kind
        self._plain: Callable[[T], Any] = _CONVERTER.get_unstructure_hook(kind)
        self._typed: Callable[[Any, Any], T] = _CONVERTER.get_structure_hook(kind)

    def text(self, value: T) -> str:
        """The value as text."""
        return _WRITE(self._plain(value))

    def read(self, text: str | bytes) -> T:
        """The value of ``text``'s text. Raises ``ValueError`` for anything else."""
        try:
            return self._typed(json.loads(text), self._kind)
        except (ValueError, RecursionError):
            raise ValueError("the column does not hold what was written into it") from None


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(str, _text)
    for primitive in (int, bool):
        converter.register_structure_hook(primitive, _exactly(primitive))
    converter.register_structure_hook(bytes, lambda found, _: _bytes(found))
    converter.register_unstructure_hook(bytes, _base64)
    converter.register_unstructure_hook_func(_is(Values), dict)
    converter.register_structure_hook_func(_is(Values), lambda found, _: _values(found))
    converter.register_unstructure_hook_func(_is(Headers), lambda headers: [[n, _base64(v)] for n, v in headers])
    converter.register_structure_hook_func(_is(Headers), lambda found, _: _headers(found))
    converter.register_structure_hook_factory(is_dataclass, lambda kind: _whole(kind, converter))
    return converter


def _is(wanted: Any) -> Callable[[Any], bool]:
    return lambda found: bool(found == wanted)


def _text(found: Any, kind: Any) -> Any:
    """Text, or a member of an enumeration of texts (cattrs looks for a hook of ``str`` first)."""
    if type(found) is not str:
        raise ValueError("not text")
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return found
    # Not kind(found): Outcome reads a word it does not know as UNKNOWN, which is right on the wire alone.
    if found not in kind._value2member_map_:
        raise ValueError(f"not {kind.__name__}")
    return kind(found)


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def check(found: Any, _: Any) -> Any:
        if type(found) is not kind:
            raise ValueError(f"not {kind.__name__}")
        return found

    return check


def _whole(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """A dataclass of exactly its own keys."""
    names = {field.name for field in fields(kind)}
    structure = make_dict_structure_fn(kind, converter)

    def check(found: Any, as_: Any) -> Any:
        if type(found) is not dict or found.keys() != names:
            raise ValueError(f"not {kind.__name__}")
        return structure(found, as_)

    return check


def _values(found: Any) -> Mapping[str, Scalar]:
    if type(found) is not dict or not all(type(value) in (str, int, bool) for value in found.values()):
        raise ValueError("not values")
    return found


def _headers(found: Any) -> Headers:
    if type(found) is not list:
        raise ValueError("not headers")
    return tuple(_header(pair) for pair in found)


def _header(found: Any) -> tuple[str, bytes]:
    if type(found) is not list or len(found) != 2 or type(found[0]) is not str:
        raise ValueError("not a header")
    return found[0], _bytes(found[1])


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(found: Any) -> bytes:
    if type(found) is not str:
        raise ValueError("not base64")
    return base64.b64decode(found, validate=True)


_CONVERTER: Final = _converter()
