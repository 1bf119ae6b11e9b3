"""A consumer that knows nothing of Douse but `schemas/`: fastavro, the directory, and the single-object encoding.

For tests that must not trust our own codec to judge itself. Imports nothing of `workers`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


@dataclass(frozen=True)
class Read:
    """One value: the schema's full name, and its fields; inside an Envelope the payload's."""

    name: str
    fields: Mapping[str, Any]
    key_id: str = ""
    """Who signed, where it was an Envelope."""


class IndependentReader:
    """Reads any value of ours."""

    def __init__(self, schemas: Path = SCHEMAS) -> None:
        parsed = [fastavro.parse_schema(json.loads(path.read_text())) for path in sorted(schemas.rglob("*.avsc"))]
        self._by_mark = {
            bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")): schema for schema in parsed
        }

    def read(self, value: bytes) -> Read:
        """The record, and for an Envelope the record inside; KeyError for an unknown schema."""
        assert value[:2] == b"\xc3\x01", "not the single-object encoding"
        schema: Any = self._by_mark[value[2:10]]
        body = io.BytesIO(value[10:])
        fields: Any = fastavro.schemaless_reader(body, schema, None)
        assert not body.read(), "bytes behind the record"
        if schema["name"] == "douse.v1.Envelope":
            inside = self.read(fields["payload"])
            return Read(inside.name, inside.fields, fields["key_id"])
        return Read(schema["name"], fields)
