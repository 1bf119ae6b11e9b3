"""The record schemas, by name and by fingerprint.

Called by the codec and by ``douse schemas check``. Reads ``.avsc`` files through ``system.data_files`` once; must
never take a schema from anywhere else, least of all from a message.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import fastavro
from fastavro.schema import SchemaParseException, fingerprint, to_parsing_canonical_form

from workers.domain.errors import ConfigError, Problem
from workers.system.data_files import data_directory, schema_files

Avsc: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one record."""

    name: str
    """Full name, ``douse.v1.ActionCommand``."""
    fingerprint: bytes
    """CRC-64-AVRO of the parsing canonical form, little endian: the 8 bytes that travel."""
    parsed: Any
    """What fastavro works with."""
    source: Avsc
    """The file's own content."""
    file: str


@dataclass(frozen=True, slots=True)
class SchemaSet:
    """Every version that can be read, and the one version of each record that is written."""

    current: Mapping[str, Schema]
    frozen: tuple[Schema, ...]
    """The released versions, in file order."""
    by_fingerprint: Mapping[bytes, Schema]


def read_schema(text: str, file: str) -> Schema:
    """One schema file.

    Raises:
        ConfigError: not JSON, or not a schema.
    """
    try:
        source = json.loads(text)
        parsed: Any = fastavro.parse_schema(source, named_schemas={})
        canonical = to_parsing_canonical_form(parsed)
        mark = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
        return Schema(parsed["name"], mark, parsed, source, file)
    except (ValueError, TypeError, KeyError, SchemaParseException) as error:
        raise ConfigError((Problem(f"schemas/{file}", f"is not an Avro record schema: {error!r}"),)) from error


def load_schemas() -> SchemaSet:
    """What ships with Douse: ``schemas/*.avsc`` are written, ``schemas/frozen/*.avsc`` can still be read.

    Raises:
        ConfigError: a file that is no schema, or two current files for one record.
    """
    top = data_directory("schemas")
    return schema_set(read_schema(path.read_text("utf-8"), _relative(path, top)) for path in schema_files())


def schema_set(schemas: Iterable[Schema]) -> SchemaSet:
    """The set of these; a frozen file with the content of the current one is the current one.

    Raises:
        ConfigError: two current files for one record.
    """
    current: dict[str, Schema] = {}
    frozen: list[Schema] = []
    for schema in schemas:
        if schema.file.startswith("frozen/"):
            frozen.append(schema)
        elif (other := current.setdefault(schema.name, schema)) is not schema:
            raise ConfigError((Problem(f"schemas/{schema.file}", f"{schema.name} is already in {other.file}"),))
    return SchemaSet(current, tuple(frozen), {s.fingerprint: s for s in (*frozen, *current.values())})


def _relative(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()
