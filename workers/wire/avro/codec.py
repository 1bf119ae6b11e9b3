"""The port ``Codec``: Avro's single-object encoding, ``C3 01``, the schema's fingerprint, the body.

Made by wiring, used by every worker. A body is read with the schema it was written with, found by fingerprint among
those that ship with Douse, and resolved to the current one. Whatever the bytes are, reading them ends in a record or in
``MalformedMessage``: no length inside them is trusted beyond the bytes that are there.
"""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, TypeVar

import cattrs.errors
from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from workers.domain.errors import ConfigError, MalformedMessage
from workers.domain.trust.envelope import MAX_ENVELOPE_BYTES
from workers.wire.avro.mapping import RECORDS, from_wire, to_wire
from workers.wire.avro.schemas import Schema, SchemaSet, load_schemas

T = TypeVar("T")

MARKER: Final = b"\xc3\x01"
"""Avro specification, single-object encoding, version 1."""

PREFIX: Final = len(MARKER) + 8

_UNREADABLE: Final = (
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    struct.error,
    SchemaResolutionError,
    cattrs.errors.BaseValidationError,
    cattrs.errors.StructureHandlerNotFoundError,
)


class AvroCodec:
    """Encodes with the current schemas; decodes every version that ships."""

    def __init__(self, schemas: SchemaSet | None = None) -> None:
        """Raises ``ConfigError`` when a record has no schema."""
        self._schemas = schemas if schemas is not None else load_schemas()
        missing = sorted(name for name in RECORDS.values() if name not in self._schemas.current)
        if missing:
            raise ConfigError(f"schemas/ has no file for {', '.join(missing)}; install Douse again")
        self._current: Mapping[type, Schema] = {cls: self._schemas.current[name] for cls, name in RECORDS.items()}

    def encode(self, record: object) -> bytes:
        """Raises ``TypeError`` for a class that has no schema, and ``MalformedMessage`` (``unencodable``) for content
        that cannot travel: a number beyond 64 bits, text that is not Unicode."""
        schema = self._current.get(type(record))
        if schema is None:
            raise TypeError(f"{type(record).__name__} does not travel: it has no schema")
        body = BytesIO()
        body.write(MARKER)
        body.write(schema.fingerprint)
        try:
            schemaless_writer(body, schema.parsed, to_wire(record))
        except (ValueError, ArithmeticError, TypeError, AttributeError) as error:
            raise MalformedMessage(f"{schema.name} cannot be written: {error}", code="unencodable") from error
        return body.getvalue()

    def decode(self, data: bytes, as_: type[T]) -> T:
        """Raises ``MalformedMessage`` (``undecodable``, ``unknown_schema``, ``wrong_record``, ``oversize``)."""
        if len(data) > MAX_ENVELOPE_BYTES:
            # Empty list items take one byte there and some 60 here.
            raise MalformedMessage(f"{len(data)} bytes are more than {MAX_ENVELOPE_BYTES}", code="oversize")
        reader = self._current[as_]
        writer = self._writer(data)
        if writer.name != reader.name:
            raise MalformedMessage(f"a {writer.name}, not a {reader.name}", code="wrong_record")
        body = BytesIO(data)
        body.seek(PREFIX)
        try:
            resolved_to = None if writer is reader else reader.parsed
            wire: Any = schemaless_reader(body, writer.parsed, resolved_to)
            record = from_wire(wire, as_)
        except _UNREADABLE as error:
            raise MalformedMessage(f"{writer.name}: {type(error).__name__}: {error}", code="undecodable") from error
        if body.tell() != len(data):
            raise MalformedMessage(f"{writer.name}: {len(data) - body.tell()} bytes too many", code="undecodable")
        return record

    def names(self, data: bytes, kind: type) -> bool:
        """Whether bytes name this record's schema, in any version; nothing else of them is read."""
        writer = self._schemas.by_fingerprint.get(data[len(MARKER) : PREFIX]) if data.startswith(MARKER) else None
        return writer is not None and writer.name == self._current[kind].name

    def _writer(self, data: bytes) -> Schema:
        if len(data) < PREFIX or not data.startswith(MARKER):
            raise MalformedMessage("not Avro's single-object encoding", code="undecodable")
        mark = data[len(MARKER) : PREFIX]
        writer = self._schemas.by_fingerprint.get(mark)
        if writer is None:
            raise MalformedMessage(f"no schema with fingerprint {mark.hex()} is known", code="unknown_schema")
        return writer
